"""Where rollouts are kept: one protocol for the watched folder and for etcd."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from wetread_client.rollout.document import RolloutError

if TYPE_CHECKING:
    import threading
    from contextlib import AbstractContextManager

    from wetread_client.rollout.document import Rollout


LIVE_S = 15.0
"""An agent whose last report is older has ended. Machines' clocks may differ by as much."""


class StoreAway(Exception):
    """The store cannot be reached or read now; what was read last stays in force."""


class Conflict(RolloutError):
    """Somebody else took a step meanwhile: read the rollout again and decide anew."""


class WriterBusy(RolloutError):
    """Another command is changing this pipeline now."""


class AgentState(StrEnum):
    """How far an agent is with a revision."""

    WORKING = "working"
    SETTLED = "settled"
    """Its server serves what the revision wants."""
    FAILED = "failed"
    """It cannot: what it served before is still served. `message` says why."""
    FALLBACK = "fallback"
    """The stable release cannot be served; another good one is. `message` says why."""


@dataclass(frozen=True, slots=True)
class AgentReport:
    """What one release agent says of one pipeline on its server; written anew every few seconds."""

    agent: str
    """Host and store, or what --name said."""
    pipeline: str
    revision: int
    """Of the rollout that it acted on; 0: there is none, it serves the checkout's release."""
    state: AgentState
    stable: int
    """The release that its server answers with; 0: none."""
    candidate: int
    """The candidate that its server answers with; 0: none."""
    target: str
    """Which engine of a release it takes: `cpu`, `sm_90-trt11`."""
    device: str
    """What its records of the gate are kept by, for example `cpu-avx512_vnni`."""
    url: str
    """The server's HTTP address."""
    message: str = ""
    """For a human."""
    failed_release: int = 0
    """The release that could not be served."""
    at: float = 0.0
    """Seconds since the epoch."""

    @property
    def is_live(self) -> bool:
        """Say whether its agent runs: it wrote the report lately, by this machine's clock."""
        return abs(time.time() - self.at) < LIVE_S

    def dump(self) -> bytes:
        """Give the report as UTF-8 JSON."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def parse(cls, document: bytes) -> AgentReport:
        """Read a report; RolloutError when it is none."""
        try:
            content: dict[str, Any] = json.loads(document)
            return cls(**{**content, "state": AgentState(content["state"])})
        except (ValueError, KeyError, TypeError) as error:
            raise RolloutError(f"not an agent's report: {error!r}") from error


class RolloutStore(Protocol):
    """Keeps rollouts with their history, and the agents' reports. Safe for many threads and processes.

    Every method raises StoreAway when the store cannot be reached, RolloutError when it holds what cannot be read.
    """

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a rollout, in order."""
        ...

    def read(self, pipeline: str) -> Rollout | None:
        """Give the rollout in force, None where there is none."""
        ...

    def write(self, rollout: Rollout) -> None:
        """Put the next revision in force, durably and all at once; Conflict unless it follows the one in force."""
        ...

    def history(self, pipeline: str) -> tuple[Rollout, ...]:
        """Give all revisions, oldest first."""
        ...

    def writer(self, pipeline: str, timeout_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold the one writer's lock of a pipeline; it ends with its process. WriterBusy after `timeout_s`."""
        ...

    def changed(self, stop: threading.Event, timeout_s: float) -> bool:
        """Wait until any rollout or report may have changed, `stop` is set or the time is up; say whether one may.

        A change is noticed within a second. Each store object remembers what it has told of.
        """
        ...

    def report(self, report: AgentReport) -> None:
        """Put an agent's report in the place of its last one."""
        ...

    def reports(self, pipeline: str) -> tuple[AgentReport, ...]:
        """Give the last report of every agent, also of those that ended long ago."""
        ...

    def all_reports(self) -> tuple[AgentReport, ...]:
        """Give the reports of all pipelines: who knows none of a new one yet is known by the others."""
        ...

    def forget(self, report: AgentReport) -> None:
        """Remove an agent's report: it ended in order."""
        ...
