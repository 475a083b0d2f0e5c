"""A draft: a folder that holds a whole pipeline before it has a release number; what `build` and `new` leave.

<draft>/draft.json            this module's Draft
<draft>/parts/<part folder>/  the files of each part's version folder: recipe.json, model.onnx, pipeline.json, ...
<draft>/build.json            how it was built, so that it can be built again
<draft>/CARD.md               the model card
<draft>/gate/                 what the gate wrote: <engine>-<device>.json records, golden.json, report.html
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wetread_release.digest import folder_digests, joined_digest
from wetread_release.errors import BadDraft
from wetread_release.triton_config import ModelConfig
from wetread_release.wiring import Wiring, base_name

SCHEMA = 1
ANY_TARGET = "any"


@dataclass(frozen=True)
class DraftPart:
    """One part; its config has the shared name (`<pipeline>_<role>`) and no versions."""

    role: str
    config: ModelConfig
    folder: str
    """Below `parts/`."""
    target: str = ANY_TARGET
    """The servers that take this part: all, or those of one target (`cpu`, `sm_90-trt11`)."""


@dataclass(frozen=True)
class Draft:
    """What `draft.json` says."""

    pipeline: str
    wiring: Wiring
    parts: tuple[DraftPart, ...]
    engine: str = "onnxruntime"
    precision: str = "fp32"
    schema: int = SCHEMA

    def part(self, role: str, target: str = ANY_TARGET) -> DraftPart:
        """Give the part of a role that servers of `target` take.

        Raises:
            BadDraft: there is none.
        """
        for wanted in (target, ANY_TARGET):
            for part in self.parts:
                if (part.role, part.target) == (role, wanted):
                    return part
        raise BadDraft(f"the draft of {self.pipeline} has no {role} for servers of target {target}")

    @property
    def targets(self) -> tuple[str, ...]:
        """Give the targets that some part is made for; (`any`,) where all parts suit all servers."""
        return tuple(sorted({part.target for part in self.parts} - {ANY_TARGET})) or (ANY_TARGET,)

    def save(self, folder: Path) -> None:
        """Write draft.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "draft.json").write_bytes(_ADAPTER.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> "Draft":
        """Read the draft in `folder` and check that its parts are there.

        Raises:
            BadDraft: it is no draft, or not whole.
        """
        path = folder / "draft.json"
        if not path.is_file():
            raise BadDraft(f"{folder} is no draft: it has no draft.json; `wetread release build` makes one")
        draft = load_document(path)
        for part in draft.parts:
            if part.config.name != base_name(draft.pipeline, part.role):
                raise BadDraft(f"{path}: the {part.role} is named {part.config.name}, not by its pipeline and role")
            if not part_folder(folder, part).is_dir():
                raise BadDraft(f"{part_folder(folder, part)} is missing")
        return draft


def load_document(path: Path) -> Draft:
    """Read a draft.json without looking for its parts; BadDraft when it is none."""
    try:
        content = path.read_bytes()
        schema = json.loads(content).get("schema")
        if schema != SCHEMA:
            raise BadDraft(f"{path}: schema {schema} is not known here, this version reads {SCHEMA}: update wetread")
        return _ADAPTER.validate_json(content)
    except (OSError, ValidationError, ValueError, AttributeError) as error:
        raise BadDraft(f"{path}: {error}") from error


def part_folder(folder: Path, part: DraftPart) -> Path:
    """Give the folder of a part's files in the draft's folder."""
    return folder / "parts" / part.folder


def content_digest(folder: Path, draft: Draft) -> str:
    """SHA-256 over all that decides an answer: configs, wiring and the files of every part."""
    digests = {"wiring": joined_digest({"wiring": repr(draft.wiring)})}
    for part in draft.parts:
        digests[f"{part.role}/{part.target}/config"] = part.config.digest
        digests[f"{part.role}/{part.target}/files"] = joined_digest(folder_digests(part_folder(folder, part)))
    return joined_digest(digests)


_ADAPTER = TypeAdapter(Draft)
