"""What reads a work now: the arm that its study was given, as long as the rollout knows it; or a light model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wetread_client.rollout import Arm

from wetread_gateway.priority import Priority
from wetread_gateway.reading.worklist import STABLE, Served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wetread_client.rollout import Rollout

    from wetread_gateway.rollouts import Rollouts

CANDIDATE = Arm.CANDIDATE.value


class WorkRow(Protocol):
    """What of a work's row decides."""

    @property
    def pipeline(self) -> str:
        """The rule's pipeline."""
        ...

    @property
    def arm(self) -> str:
        """The arm that its study was given."""
        ...

    @property
    def priority(self) -> int:
        """A Priority."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the work; `candidate` is the release that its arm meant."""
        ...


@dataclass(frozen=True, slots=True)
class Routes:
    """Chooses for works. `without`: what cannot be read with at present."""

    rollouts: Rollouts
    without: frozenset[Served] = frozenset()

    def served(self, row: WorkRow) -> Served:
        """Give what reads a work: its arm while it is what it was, else the stable one; nobody waits for a candidate.

        A routine work goes to the light model while one is in force and can be read with.
        """
        rollout = self.rollouts.of(row.pipeline)
        stable = Served(row.pipeline, STABLE)
        if rollout is None:
            return stable
        light = Served(rollout.light_model, STABLE)
        if rollout.light_model and row.priority == Priority.ROUTINE and light not in self.without:
            return light
        candidate = Served(row.pipeline, CANDIDATE)
        is_given = row.arm == CANDIDATE and _reads(rollout, row.options.get("candidate", 0))
        return candidate if is_given and candidate not in self.without else stable

    def has_shadow(self, row: WorkRow, served: Served) -> bool:
        """Whether the candidate shall be asked too, once the stable release has read the work."""
        rollout = self.rollouts.of(row.pipeline)
        by_stable = served == Served(row.pipeline, STABLE)
        return by_stable and rollout is not None and rollout.shadow and rollout.candidate is not None

    def waits(self, row: WorkRow) -> bool:
        """Whether what reads a work cannot be read with at present."""
        return self.served(row) in self.without


def _reads(rollout: Rollout, candidate: int) -> bool:
    """Whether this candidate has a share now; after `abort` it has none, and its studies are the stable release's."""
    return bool(candidate) and rollout.candidate == candidate and rollout.candidate_percent > 0
