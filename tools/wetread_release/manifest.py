"""The manifest of a published release: every file by its hash, what the gate said, who made it and why."""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from wetread_release.draft import ANY_TARGET
from wetread_release.errors import BadDraft
from wetread_release.triton_config import ModelConfig
from wetread_release.wiring import Wiring

SCHEMA = 1


@dataclass(frozen=True)
class ReleasedPart:
    """One part under the model name and version that it has for good."""

    role: str
    target: str
    model: str
    version: int
    config: ModelConfig
    """With the model's name and without versions."""
    folder: str
    """Of its files in the release, below `parts/`."""
    files: dict[str, str]
    """SHA-256 by name."""


@dataclass(frozen=True)
class GateSummary:
    """One record of the gate: figures of one engine on one device, comparable only within these."""

    engine: str
    precision: str
    device: str
    target: str
    passed: bool
    figures: dict[str, float]
    failures: tuple[str, ...] = ()
    at: float = 0.0


@dataclass(frozen=True)
class GoldenRecord:
    """What the gate's server answered to the golden films, on one engine and device."""

    engine: str
    device: str
    probabilities: tuple[tuple[float, ...], ...]
    """[films][findings]"""
    positive: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Golden:
    """Synthetic films whose answers are known: (label, seed) each, drawn by wetread_models' film model."""

    films: tuple[tuple[str, int], ...]
    film_model: str
    """SHA-256 of the film model that draws them."""
    records: tuple[GoldenRecord, ...]
    tolerance: float = 1e-3
    """On a probability, within one engine and device."""


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json; its bytes are what is signed."""

    pipeline: str
    release: int
    wiring: Wiring
    parts: tuple[ReleasedPart, ...]
    content: str
    """`draft.content_digest`: equal for the same release published twice."""
    engine: str
    precision: str
    code: dict[str, str]
    """SHA-256 of the backends' packages that the gate ran with, by package."""
    evidence: dict[str, str]
    """SHA-256 of every other file of the release, by its path: build.json, CARD.md, gate/..."""
    gate: tuple[GateSummary, ...] = ()
    golden: Golden | None = None
    forced: str = ""
    """Why it was published without a passed gate."""
    parent: int = 0
    """The release that was stable when it was published."""
    created_at: float = 0.0
    created_by: str = ""
    reason: str = ""
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """Give pipeline and number for a message."""
        return f"{self.pipeline} release {self.release}"

    def pins(self, target: str) -> dict[str, ReleasedPart]:
        """Give the parts by role that a server of `target` takes.

        Raises:
            BadDraft: the release has no part of some role for that target.
        """
        chosen: dict[str, ReleasedPart] = {}
        for part in self.parts:
            if part.target == target or (part.target == ANY_TARGET and part.role not in chosen):
                chosen[part.role] = part
        missing = [step.role for step in self.wiring.steps if step.role not in chosen]
        if missing:
            there = ", ".join(sorted({part.target for part in self.parts}))
            raise BadDraft(
                f"{self.name} has no {', '.join(missing)} for servers of target {target} (it has: {there}): build it "
                "there with `wetread release build --here`"
            )
        return chosen

    def ensemble(self, name: str, target: str) -> ModelConfig:
        """Give the ensemble's configuration under `name`: of an arm, the release as its only version."""
        pins = {role: (part.model, part.version) for role, part in self.pins(target).items()}
        return self.wiring.ensemble(name, self.release, pins)

    def gate_of(self, target: str) -> GateSummary | None:
        """Give the newest gate record for servers of `target`."""
        records = [record for record in self.gate if record.target in (target, ANY_TARGET)]
        return max(records, key=lambda record: record.at, default=None)

    def dump(self) -> bytes:
        """Give manifest.json."""
        return _ADAPTER.dump_json(self, indent=1) + b"\n"

    @classmethod
    def parse(cls, document: bytes, where: str) -> "Manifest":
        """Read manifest.json; BadDraft, naming `where`, when it is none."""
        try:
            schema = json.loads(document).get("schema")
            if schema != SCHEMA:
                raise BadDraft(f"{where}: schema {schema} is not known here, this version reads {SCHEMA}")
            return _ADAPTER.validate_json(document)
        except (ValidationError, ValueError, AttributeError) as error:
            raise BadDraft(f"{where}: {error}") from error


_ADAPTER = TypeAdapter(Manifest)
