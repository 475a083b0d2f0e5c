"""Releases for the benchmark of the swap: drafts that answer differently, and drafts that are broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from wetread_release.film_pipeline import SHIPPED, film_draft

from wetread_bench import swap_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_release.checkout import Shipped
    from wetread_release.draft import Draft
    from wetread_release.triton_config import ModelConfig

PIPELINE = "chest_xray"
OTHER_SIDE, OTHER_CELLS = 192, 6
"""Rows and columns of another input size, and of its ACTIVATION: the network shrinks a film by 32."""


class Kind(StrEnum):
    """In what a release differs from the shipped one, or what is wrong with it."""

    WEIGHTS = "weights"
    RULES = "rules of postprocessing"
    ALL_PARTS = "all three parts"
    SETTINGS = "another engine settings block"
    INPUT_SIZE = "another input size"
    CORRUPT_ONNX = "corrupt ONNX"
    WRONG_SHAPES = "wrong shapes"
    FAILING_WARM_UP = "failing warm-up"
    WRONG_LABELS = "wrong labels"
    WRONG_GOLDEN = "wrong golden answers"
    CLASS_COUNT = "other class count"
    BATCH_SIZE = "other max_batch_size"
    BACKEND = "other backend"

    @property
    def is_broken(self) -> bool:
        """Whether no server may ever answer with it."""
        return self in _BROKEN


ORDER = (
    Kind.WEIGHTS, Kind.CORRUPT_ONNX, Kind.RULES, Kind.WRONG_SHAPES, Kind.SETTINGS, Kind.FAILING_WARM_UP, Kind.WEIGHTS,
    Kind.WRONG_LABELS, Kind.INPUT_SIZE, Kind.WRONG_GOLDEN, Kind.ALL_PARTS, Kind.CLASS_COUNT, Kind.WEIGHTS,
    Kind.BATCH_SIZE, Kind.RULES, Kind.BACKEND, Kind.SETTINGS, Kind.ALL_PARTS, Kind.INPUT_SIZE,
)  # fmt: skip
"""Of all cycles but the last, which is of the first one's kind: memory is compared between these two."""
FIRST = ORDER[0]


def plan_kinds(cycles: int) -> list[Kind]:
    """Give the kinds of so many cycles, the last of the kind of the first."""
    return [ORDER[at % len(ORDER)] for at in range(cycles - 1)] + [FIRST]


def make(shipped: Shipped, kind: Kind, folder: Path) -> Draft:
    """Lay a release out in `folder`, which is made, and return its draft; its numbers are still to be told apart."""
    draft = shipped.lay_out(folder)
    if edit := _EDITS.get(kind):
        draft = edit(draft, folder)
        draft.save(folder)
    return draft


def shift(draft: Draft, folder: Path, by: float) -> None:
    """Add a constant to a draft's logits."""
    swap_onnx.shift_logits(folder / "parts" / draft.part("classifier").folder / "model.onnx", by)


def _with_config(draft: Draft, role: str, change: Callable[[ModelConfig], ModelConfig]) -> Draft:
    parts = tuple(replace(part, config=change(part.config)) if part.role == role else part for part in draft.parts)
    return replace(draft, parts=parts)


def _edit_json(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _rules(draft: Draft, folder: Path) -> Draft:
    """A temperature of its own: the same logit gives another probability."""

    def change(document: dict[str, object]) -> None:
        findings = document["findings"]
        assert isinstance(findings, list)
        for finding in findings:
            finding["temperature"] = round(finding["temperature"] * 1.25, 6)

    _edit_json(folder / "parts" / "postprocess" / "pipeline.json", change)
    return draft


def _all_parts(draft: Draft, folder: Path) -> Draft:
    """Another scale of the gray levels, beside other rules and weights."""
    _edit_json(folder / "parts" / "preprocess" / "recipe.json", lambda recipe: recipe.update(scale=120.0))
    return _rules(draft, folder)


def _settings(draft: Draft, folder: Path) -> Draft:
    """The classifier runs in another engine: a model name of its own."""
    return _with_config(
        draft,
        "classifier",
        lambda config: replace(config, parameters=(*config.parameters, ("engine", "onnxruntime"))),
    )


def _input_size(draft: Draft, folder: Path) -> Draft:
    """A smaller film: all three parts take model names of their own."""
    shape = SHIPPED[PIPELINE]
    assert shape.activation is not None
    spec = replace(
        shape,
        image=replace(shape.image, dims=(1, OTHER_SIDE, OTHER_SIDE)),
        activation=replace(shape.activation, dims=(1, OTHER_CELLS, OTHER_CELLS)),
    )
    swap_onnx.resize_input(folder / "parts" / "classifier" / "model.onnx", OTHER_SIDE)
    _edit_json(
        folder / "parts" / "preprocess" / "recipe.json", lambda recipe: recipe.update(size=[OTHER_SIDE, OTHER_SIDE])
    )
    return film_draft(PIPELINE, spec)


def _corrupt_onnx(draft: Draft, folder: Path) -> Draft:
    model = folder / "parts" / "classifier" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 3])
    return draft


def _wrong_shapes(draft: Draft, folder: Path) -> Draft:
    """The file takes smaller films than its configuration says."""
    swap_onnx.resize_input(folder / "parts" / "classifier" / "model.onnx", OTHER_SIDE)
    return draft


def _failing_warm_up(draft: Draft, folder: Path) -> Draft:
    from wetread_release.triton_config import Warmup  # noqa: PLC0415 - needed here alone

    swap_onnx.fail_when_run(folder / "parts" / "classifier" / "model.onnx")
    return _with_config(
        _settings(draft, folder), "classifier", lambda config: replace(config, warmup=Warmup("first film"))
    )


def _wrong_labels(draft: Draft, folder: Path) -> Draft:
    """The table names two findings where the classifier scores one."""

    def change(document: dict[str, object]) -> None:
        findings = document["findings"]
        assert isinstance(findings, list)
        findings.append({**findings[0], "label": f"another {findings[0]['label']}"})

    _edit_json(folder / "parts" / "postprocess" / "pipeline.json", change)
    return draft


def _class_count(draft: Draft, folder: Path) -> Draft:
    swap_onnx.double_logits(folder / "parts" / "classifier" / "model.onnx")

    def change(config: ModelConfig) -> ModelConfig:
        outputs = tuple(replace(out, dims=(2,)) if out.name == "LOGITS" else out for out in config.outputs)
        return replace(config, outputs=outputs)

    return _with_config(draft, "classifier", change)


def _batch_size(draft: Draft, folder: Path) -> Draft:
    return _with_config(draft, "classifier", lambda config: replace(config, max_batch_size=4))


def _backend(draft: Draft, folder: Path) -> Draft:
    return _with_config(draft, "classifier", lambda config: replace(config, backend="pytorch"))


def _unchanged(draft: Draft, folder: Path) -> Draft:
    """Its files are whole; what is wrong with it stands in the record of the gate."""
    return draft


_Edit = Callable[["Draft", "Path"], "Draft"]
_BROKEN: Mapping[Kind, _Edit] = {
    Kind.CORRUPT_ONNX: _corrupt_onnx,
    Kind.WRONG_SHAPES: _wrong_shapes,
    Kind.FAILING_WARM_UP: _failing_warm_up,
    Kind.WRONG_LABELS: _wrong_labels,
    Kind.WRONG_GOLDEN: _unchanged,
    Kind.CLASS_COUNT: _class_count,
    Kind.BATCH_SIZE: _batch_size,
    Kind.BACKEND: _backend,
}
_EDITS: Mapping[Kind, _Edit] = {
    Kind.RULES: _rules,
    Kind.ALL_PARTS: _all_parts,
    Kind.SETTINGS: _settings,
    Kind.INPUT_SIZE: _input_size,
    **_BROKEN,
}
