"""One run: what all users share, and its end, when everything that was acknowledged must have its result."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gevent  # type: ignore[import-untyped]  # it has no stubs
import h11

from wetread_loadtest.checks import outcome_of
from wetread_loadtest.films import Films
from wetread_loadtest.http_door import ask
from wetread_loadtest.tally import Acknowledged, Tally

if TYPE_CHECKING:
    from wetread_loadtest.options import Options

_START_S = 1.0  # from the start of the run to the clock's zero: every user is there by then
_LOOK_S = 0.2


class Run:
    """The run of this process."""

    current: ClassVar[Run]

    def __init__(self, options: Options) -> None:
        self.options = options
        self.seed = options.seed or secrets.randbelow(1 << 31)
        self.films = Films(self.seed)
        self.tally = Tally()
        self.zero = time.monotonic() + _START_S
        self.users_left = 0
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """Give the next film's or series' number."""
        return next(self._numbers)

    def acknowledge(self, study_uid: str, instances: int, *, is_read: bool = True) -> None:
        """Note a study that a door has taken."""
        self.tally.acknowledged.append(Acknowledged(study_uid, instances, is_read))

    def headers(self, *, stat: bool = False) -> dict[str, str]:
        """Give what goes with every request."""
        found = {"Accept": "application/json"}
        if self.options.token:
            found["Authorization"] = f"Bearer {self.options.token}"
        if stat:
            found["Wetread-Priority"] = "STAT"
        return found

    def settle(self) -> None:
        """Ask for every acknowledged study until each has its result; what has none in time is lost."""
        waiting = list(self.tally.acknowledged)
        until = time.monotonic() + self.options.settle_s
        while waiting:
            left = []
            for one in waiting:
                outcome = outcome_of(self._study(one.study_uid), one.instances, is_read=one.is_read)
                if outcome == "lost":
                    self.tally.lost.append(one.study_uid)
                elif outcome == "waiting":
                    left.append(one)
            waiting = left
            if time.monotonic() > until:
                self.tally.lost += [one.study_uid for one in waiting]
                return
            gevent.sleep(_LOOK_S)

    def report(self) -> Path:
        """Write the JSON."""
        path = Path(self.options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {"seed": self.seed, "seconds": self.options.seconds, **self.tally.told()}
        path.write_text(json.dumps(told, indent=1) + "\n")
        return path

    def _study(self, study_uid: str) -> dict[str, Any] | None:
        try:
            answer = ask(self.options.url, "GET", f"/v1/studies/{study_uid}", self.headers(), timeout_s=30.0)
        except (OSError, h11.ProtocolError):
            return {"instances": {"received": 1 << 30}, "works": []}  # it is asked again
        return answer.json() if answer.status == 200 else None
