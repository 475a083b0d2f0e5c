"""What every process of the gateway is given."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread_gateway.bell import Bell, Stage, ring
from wetread_gateway.right_of_way import RightOfWay
from wetread_gateway.rollouts import Rollouts
from wetread_gateway.siblings import Siblings

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.audit import AuditSink
    from wetread_gateway.config.live import LiveSettings
    from wetread_gateway.config.settings import Settings
    from wetread_gateway.spool.spool import Spool
    from wetread_gateway.state.store import StateStore


@dataclass(frozen=True, slots=True)
class Context:
    """One process's share of the gateway: spool, state store and audit are all that processes have in common.

    `slot`: the process's name, such as `receiver-0`: stable over restarts, unique in this gateway.
    `stop`: set when the process shall end; a stage then finishes what it has begun. `rollouts`: who is read by what.
    `siblings`: the films of every intake's spool.
    """

    slot: str
    live: LiveSettings
    spool: Spool
    store: StateStore
    audit: AuditSink
    bells: Path
    stop: threading.Event = field(default_factory=threading.Event)
    rollouts: Rollouts = field(init=False)
    siblings: Siblings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rollouts", Rollouts(lambda: self.settings.triton.rollouts, self.stop))
        object.__setattr__(self, "siblings", Siblings(self.spool, self.slot, lambda: self.settings))

    @property
    def settings(self) -> Settings:
        """The settings now; ask anew for each item, the file may have changed."""
        return self.live.current

    @property
    def home(self) -> str:
        """This intake's name; empty where it is the only one."""
        return self.settings.gateway.name

    def right_of_way(self) -> RightOfWay:
        """Make one stage's view of the right that STAT has."""
        return RightOfWay(self.spool.root)

    def bell(self, stage: Stage) -> Bell:
        """Make this process's doorbell of `stage`."""
        return Bell(self.bells, stage, self.slot)

    def ring(self, stage: Stage) -> None:
        """Tell whoever waits at `stage` that there is work."""
        ring(self.bells, stage)
