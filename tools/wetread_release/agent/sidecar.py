"""The agent beside a Triton that somebody else starts: a container's, in EXPLICIT mode, over the same folder."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wetread_release.agent.control import Control
from wetread_release.agent.health import unready
from wetread_release.agent.served import CONFIG, ServedCopy
from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from wetread_embedded.rest import Rest

    from wetread_release.agent.attend import Attendant
    from wetread_release.agent.health import AgentHealth

LOG = logging.getLogger(__name__)
POLL_S = 1.0
_AGAIN_S = 10.0
_GIVEN_UP_AFTER = 3
"""Looks in a row at which no pipeline is ready: the server was started anew between two of them."""


class Sidecar:
    """Follows the rollouts for one Triton through all its restarts; one that is killed itself goes on where it was.

    Triton reads `<store>/model_repository` and `<store>/ensembles`. `attendant` makes an agent for one run of the
    server.
    """

    def __init__(self, rest: Rest, store: Path, attendant: Callable[[], Attendant], load_timeout_s: float) -> None:
        self._rest = rest
        self._control = Control(rest, load_timeout_s)
        self._served = ServedCopy(store / "model_repository", store / "ensembles")
        self._attendant = attendant
        self.health: AgentHealth | None = None
        """Told of each run of the server, where somebody asks for it."""

    def run(self, stop: threading.Event) -> None:
        """Look after the server until `stop` is set."""
        while not stop.is_set():
            attendant = self._attendant()
            try:
                self._begin(attendant, stop)
                if stop.is_set():
                    return
                attendant.start(self._rest)
                if self.health is not None:
                    self.health.follow(attendant)
                LOG.info("following the rollouts for %s:%d", self._rest.host, self._rest.port)
                self._watch(stop)
            except ServeFailed as error:
                LOG.error("%s", error)
                stop.wait(_AGAIN_S)
            finally:
                if self.health is not None:
                    self.health.let_go()
                attendant.stop()

    def prepare(self) -> None:
        """Make the served copy of a server that is not there yet."""
        self._attendant().prepare()

    def _begin(self, attendant: Attendant, stop: threading.Event) -> None:
        """Bring the server to what it begins with; one that answers already keeps all that it has loaded."""
        if self._answers():
            LOG.info("the server answers already: what it serves is kept")
            return
        attendant.prepare()
        while not self._control.is_live():
            if stop.wait(POLL_S):
                return
        while True:
            try:
                for pipeline in self.pipelines():
                    self._control.load(pipeline)
            except ServeFailed as error:
                if not attendant.fall_back(str(error)):
                    raise
            else:
                return

    def _watch(self, stop: threading.Event) -> None:
        """Return when the server has ended, or was started anew and has nothing loaded."""
        missed = 0
        while not stop.wait(POLL_S):
            if not self._control.is_live():
                LOG.warning("the server has ended")
                return
            missed = 0 if self._answers() or not self.pipelines() else missed + 1
            if missed >= _GIVEN_UP_AFTER:
                LOG.warning("the server serves nothing any more: it was started anew")
                return

    def unready(self) -> str:
        """Say why the server cannot be read with, or ''."""
        return unready(self._rest, self.pipelines())

    def pipelines(self) -> list[str]:
        """Give the pipelines in the served copy."""
        return sorted(path.parent.name for path in self._served.ensembles.glob(f"*/{CONFIG}"))

    def _answers(self) -> bool:
        return any(self._rest.is_ready(pipeline) for pipeline in self.pipelines())
