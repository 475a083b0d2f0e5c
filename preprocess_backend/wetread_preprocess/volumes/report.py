"""What was done to a series, as JSON beside the volume: no patient's data, identifiers only when asked for."""

import hashlib
import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.steps import STEPS
from wetread_preprocess.volumes.volume import Volume

_IDENTIFIERS = ("series_instance_uid", "sop_instance_uids", "frames")
_NAMES = {kind: name for name, kind in STEPS.items()}


def describe_volume(
    volume: Volume, recipe: VolumeRecipe, files: list[Path], *, identifiers: bool, padded: bool
) -> dict[str, Any]:
    """Give the document of one volume; lengths in mm, times in ms.

    `files`: those that were read, in the order that places in warnings and `left_out` count, from 1. `identifiers`:
    with UIDs and file names, which may tell whose images these are. `padded`: the volume was kept with its padding.
    """
    source: dict[str, Any] = json.loads(volume.geometry)
    for name in ("volume", "warnings", "timings_ms"):
        source.pop(name)
    left_out = source.pop("left_out")
    if not identifiers:
        for name in _IDENTIFIERS:
            source.pop(name)
        for one in left_out:
            one.pop("sop_instance_uid")
    grid = volume.grid
    return {
        **_made_by(),
        "recipe": recipe_document(recipe),
        "source": source,
        "grid": {
            "shape": list(volume.values.shape[1:] if padded else grid.shape),
            "content": list(grid.shape),
            "spacing_mm": [round(side, 9) for side in grid.spacing_mm],
            "orientation": grid.orientation,
            "affine_ras": grid.ras_affine.tolist(),
            "affine_lps": grid.affine.tolist(),
        },
        "files": [file.name for file in files] if identifiers else len(files),
        "left_out": left_out,
        "warnings": list(volume.warnings),
        "timings_ms": volume.timings_ms,
    }


def describe_film(geometry: bytes, file: Path, *, identifiers: bool) -> dict[str, Any]:
    """Give the document of one film."""
    source: dict[str, Any] = json.loads(geometry)
    doubts = source.pop("warnings")
    if not identifiers:
        source.pop("sop_instance_uid")
    return {**_made_by(), "source": source, "files": [file.name] if identifiers else 1, "warnings": doubts}


def recipe_document(recipe: VolumeRecipe) -> dict[str, Any]:
    """Give what decided the volume: orientation, steps with all their parameters, series rules, buckets."""
    return {
        "orientation": recipe.orientation,
        "steps": [{"step": _NAMES[type(step)], **asdict(step)} for step in recipe.steps],
        "series": asdict(recipe.series),
        "buckets": asdict(recipe.buckets),
    }


def as_text(document: dict[str, Any]) -> str:
    """Write JSON that a person can read: a line for each key, and for each key of what lies within."""
    return _lines(document, "") + "\n"


def _lines(value: object, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value and len(indent) < 4:
        return (
            "{\n"
            + ",\n".join(f"{inner}{json.dumps(key)}: {_lines(item, inner)}" for key, item in value.items())
            + f"\n{indent}}}"
        )
    if isinstance(value, list) and value and all(isinstance(item, dict | str) for item in value):
        return "[\n" + ",\n".join(inner + json.dumps(item) for item in value) + f"\n{indent}]"
    return json.dumps(value)


def _made_by() -> dict[str, str]:
    """Version and code: a SHA-256 over this package's files, which tells builds of one version apart."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return {"made_by": f"wetread {metadata.version('wetread')}", "code": digest.hexdigest()}
