"""The rollout document: which releases of a pipeline are wanted, and who is read by which of them.

One small immutable document a pipeline and revision. The command line writes the next revision; release agents carry
out its releases, readers follow its shares.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

SCHEMA = 1


class Arm(StrEnum):
    """A side of a comparison. The stable arm is the ensemble `<pipeline>`, the other one `<pipeline>_candidate`."""

    STABLE = "stable"
    CANDIDATE = "candidate"

    def model(self, pipeline: str) -> str:
        """Give the name of the ensemble that Triton serves for this arm."""
        return pipeline if self is Arm.STABLE else f"{pipeline}_{self.value}"


class Key(StrEnum):
    """What an arm is assigned by: all that shares the key is read by one arm."""

    PATIENT = "patient"
    STUDY = "study"
    ACCESSION = "accession"


class Gate(StrEnum):
    """What the clinical gate said of a release."""

    PASSED = "passed"
    FORCED = "forced"
    """It failed or was not run, and somebody gave a reason to go on."""
    NONE = "none"


class RolloutError(ValueError):
    """A rollout cannot be read, or a step that was asked for is not allowed; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The wanted state of one pipeline. Release numbers count from 1."""

    pipeline: str
    revision: int
    """1 for the first document of a pipeline, one more with each step."""
    stable: int = 0
    """The release that reads; 0: none yet."""
    candidate: int | None = None
    """The release that is tried beside it."""
    candidate_gate: Gate = Gate.NONE
    candidate_percent: float = 0.0
    """Share of keys, 0-100, that the candidate reads."""
    shadow: bool = False
    """The candidate also answers what the stable release reads; that answer is stored and compared, never sent."""
    previous: int | None = None
    """What a rollback goes back to; agents keep it loaded."""
    key: Key = Key.PATIENT
    salt: str = ""
    """Mixed into the assignment; a new one with each candidate, so that not always the same patients go first."""
    light_model: str = ""
    """The pipeline that reads routine works in the place of this one while an operator wants it so; empty: none."""
    highest: int = 0
    """The highest release number ever given; none is given twice."""
    act: str = ""
    """The step that made this revision: adopt, publish, promote, rollback, withdraw, undo, set, abort."""
    by: str = ""
    """Who took it."""
    approved_by: str = ""
    reason: str = ""
    at: float = 0.0
    """Seconds since the epoch."""

    @property
    def wanted(self) -> tuple[int, ...]:
        """Give the releases that every server keeps loaded, the stable one first."""
        several = (self.stable or None, self.candidate, self.previous)
        return tuple(dict.fromkeys(release for release in several if release))

    def dump(self) -> bytes:
        """Give the document as UTF-8 JSON."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, document: bytes) -> Rollout:
        """Read a document; RolloutError when it is none, of another schema or contradicts itself."""
        try:
            content: dict[str, Any] = json.loads(document)
            schema = content.pop("schema")
        except (ValueError, KeyError, AttributeError) as error:
            raise RolloutError(f"not a rollout document: {error!r}") from error
        if schema != SCHEMA:
            raise RolloutError(f"the rollout has schema {schema!r}, this version reads {SCHEMA}: update wetread")
        known = {field.name for field in fields(cls)}
        if unknown := content.keys() - known:
            raise RolloutError(f"the rollout has unknown entries {sorted(unknown)}: update wetread")
        try:
            content["candidate_gate"] = Gate(content.get("candidate_gate", Gate.NONE))
            content["key"] = Key(content.get("key", Key.PATIENT))
            rollout = cls(**content)
            rollout.check()
        except (TypeError, ValueError) as error:
            raise RolloutError(f"the rollout cannot be used: {error}") from error
        return rollout

    def check(self) -> None:
        """Raise RolloutError where the document contradicts itself."""
        if not self.pipeline or self.revision < 1:
            raise RolloutError("a rollout has a pipeline and a revision of 1 or more")
        if not (math.isfinite(self.candidate_percent) and 0 <= self.candidate_percent <= 100):
            raise RolloutError(f"the candidate's share is between 0 and 100 %, not {self.candidate_percent}")
        if self.candidate is None and (self.candidate_percent or self.shadow):
            raise RolloutError("there is no candidate that could have a share or a shadow")
        if self.candidate is not None and self.candidate == self.stable:
            raise RolloutError(f"release {self.stable} cannot be both arms")
        numbers = [number for number in (self.stable, self.candidate or 0, self.previous or 0) if number]
        if any(number < 0 or number > self.highest for number in numbers):
            raise RolloutError(f"a release number is above the highest one given, {self.highest}")
