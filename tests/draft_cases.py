"""Small drafts for the tests of releases: three parts whose files say who they are."""

from dataclasses import replace
from pathlib import Path

from wetread_client.rollout import Actor
from wetread_release.draft import Draft, DraftPart
from wetread_release.triton_config import ModelConfig, TensorConfig
from wetread_release.wiring import StepWires, Wiring, base_name

PIPELINE = "probe"
ACTOR = Actor("tester", "to see whether it works")
_ROLES = ("preprocess", "classifier", "postprocess")


def write_draft(folder: Path, *, weights: str = "first", pipeline: str = PIPELINE, **config: object) -> Path:
    """Write a draft; `weights`: the content of the classifier's only file, `config`: fields of its config."""
    parts = []
    for role in _ROLES:
        files = folder / "parts" / role
        files.mkdir(parents=True)
        (files / "data.json").write_text(weights if role == "classifier" else f"the {role}")
        made = ModelConfig(base_name(pipeline, role), (tensor("X"),), (tensor("Y"),), backend="python")
        parts.append(DraftPart(role, replace(made, **config) if role == "classifier" else made, role))
    Draft(pipeline, _wiring(), tuple(parts)).save(folder)
    (folder / "build.json").write_text("{}\n")
    (folder / "gate").mkdir()
    (folder / "gate" / "report.html").write_text("<p>nothing flipped</p>\n")
    return folder


def tensor(name: str) -> TensorConfig:
    return TensorConfig(name, "FP32", (4,))


def _wiring() -> Wiring:
    wires = ("IN", "IMAGE", "LOGITS", "OUT")
    steps = tuple(
        StepWires(role, (("X", wires[place]),), (("Y", wires[place + 1]),)) for place, role in enumerate(_ROLES)
    )
    return Wiring((tensor("IN"),), (tensor("OUT"),), steps)
