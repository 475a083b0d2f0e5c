"""Empty slots: pipelines in Git whose model a site puts in itself are left out while the file is not there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG = "config.pbtxt"
PLACEHOLDER = ".gitkeep"
"""Keeps a slot's folder in Git; where it is not, a missing file is a fault to be seen and no slot."""
_MODEL = re.compile(r'model_name:\s*[\'"](?P<model>[^\'"]+)[\'"](?:\s+model_version:\s*(?P<version>\d+))?')
_FIELD = r'^{}:\s*[\'"]([^\'"]+)[\'"]'
_FILES = {"onnxruntime": "model.onnx", "tensorrt_plan": "model.plan", "tensorrt": "model.plan"}
"""What a version folder holds, by backend or platform (Triton's defaults); others need not hold a model."""


@dataclass(frozen=True)
class EmptySlot:
    """A pipeline that cannot be served for want of a file."""

    pipeline: str
    file: Path
    models: frozenset[str]
    """Of the pipeline, by name."""

    def __str__(self) -> str:
        return (
            f"{self.pipeline} is not served: its model slot is empty. Put an ONNX file at {self.file}, or "
            f"make a release of it: wetread release new {self.pipeline} MODEL.onnx, then wetread release publish"
        )


def empty_slots(root: Path) -> tuple[EmptySlot, ...]:
    """Return the pipelines of `root` (`ensembles/`, `model_repository/`) that pin a model version without its file."""
    found = []
    for config in sorted((root / "ensembles").glob(f"*/{CONFIG}")):
        pins = [(match["model"], match["version"] or "1") for match in _MODEL.finditer(config.read_text())]
        missing = next(_missing(root / "model_repository", pins), None)
        if missing is not None:
            found.append(EmptySlot(config.parent.name, missing, frozenset(model for model, _ in pins)))
    return tuple(found)


def model_file(config: str) -> str:
    """Return the name of the file that a version of a model with this config.pbtxt holds; empty: none is known."""
    said = re.search(_FIELD.format("default_model_filename"), config, re.MULTILINE)
    kind = re.search(_FIELD.format("(?:backend|platform)"), config, re.MULTILINE)
    usual = _FILES.get(kind[1], "") if kind else ""
    return said[1] if said and usual else usual


def _missing(repository: Path, pins: list[tuple[str, str]]) -> Iterator[Path]:
    for model, version in pins:
        config = repository / model / CONFIG
        if not config.is_file():
            continue  # Triton says so
        name = model_file(config.read_text())
        path = repository / model / version / name
        if name and (path.parent / PLACEHOLDER).is_file() and not path.exists():
            yield path
