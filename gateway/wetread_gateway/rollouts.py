"""The rollouts in force: which release reads whom, followed on a thread from the store that the settings name."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from wetread_client.rollout import RolloutError, StoreAway
from wetread_client.rollout.open import open_store

from wetread_gateway.metrics import ALERTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_client.rollout import Rollout, RolloutStore

LOG = logging.getLogger(__name__)
_WATCH_S = 1.0
_AGAIN_S = 1.0
_STORE = ""  # among the troubles, beside the names of pipelines


class Rollouts:
    """The rollout of each pipeline as it is now. Safe to use from many threads; its own begins with the first use.

    `url`: gives the store's address, empty for none; it may change. `stop`: ends the thread.
    A store that is away or holds nonsense changes nothing: what was read last stays in force, with an alert.
    """

    def __init__(
        self, url: Callable[[], str], stop: threading.Event, open_: Callable[[str], RolloutStore] = open_store
    ) -> None:
        self._url = url
        self._stop = stop
        self._open = open_
        self._lock = threading.Lock()
        self._follower: _Follower | None = None

    @property
    def in_use(self) -> bool:
        """Whether the settings name a store."""
        return bool(self._url())

    def of(self, pipeline: str) -> Rollout | None:
        """Give the rollout of a pipeline that is in force, None where there is none: then the stable arm reads all."""
        url = self._url()
        if not url:
            return None
        follower = self._follower
        if follower is None or follower.url != url:
            follower = self._follow(url)
        return follower.known.get(pipeline)

    def _follow(self, url: str) -> _Follower:
        with self._lock:
            if self._follower is None or self._follower.url != url:
                follower = _Follower(url, self._open, self._stop, lambda: self._url() == url)
                follower.read()  # what comes first shall find it
                threading.Thread(target=follower.run, name="rollouts", daemon=True).start()
                self._follower = follower
            return self._follower


class _Follower:
    """Reads one store again whenever it has changed. `known`: the rollouts in force, by pipeline."""

    def __init__(
        self,
        url: str,
        open_: Callable[[str], RolloutStore],
        stop: threading.Event,
        is_wanted: Callable[[], bool],
    ) -> None:
        self.url = url
        self.known: dict[str, Rollout] = {}
        self._open = open_
        self._stop = stop
        self._is_wanted = is_wanted
        self._store: RolloutStore | None = None
        self._troubles: set[str] = set()

    def run(self) -> None:
        """Follow until the gateway stops or the settings name another store."""
        while not self._stop.is_set() and self._is_wanted():
            if self._troubles:
                self._stop.wait(_AGAIN_S)
            if self._troubles or self._has_changed():
                self.read()

    def _has_changed(self) -> bool:
        assert self._store is not None, "a store that could not be opened is a trouble"
        try:
            return self._store.changed(self._stop, _WATCH_S)
        except (StoreAway, RolloutError) as error:
            self._complain(_STORE, error)
            return False

    def read(self) -> None:
        """Read all rollouts; one that cannot be read stays as it was."""
        try:
            self._store = self._store or self._open(self.url)
            pipelines = self._store.pipelines()
        except (StoreAway, RolloutError) as error:
            self._complain(_STORE, error)
            return
        self._troubles &= set(pipelines)
        known = {}
        for pipeline in pipelines:
            rollout = self._read(self._store, pipeline)
            if rollout is not None:
                known[pipeline] = rollout
                self._tell(rollout)
        self.known = known

    def _read(self, store: RolloutStore, pipeline: str) -> Rollout | None:
        try:
            rollout = store.read(pipeline)
        except (StoreAway, RolloutError) as error:
            self._complain(pipeline, error)
            return self.known.get(pipeline)
        self._troubles.discard(pipeline)
        return rollout

    def _complain(self, what: str, error: Exception) -> None:
        """Say it once, until it is over."""
        if what not in self._troubles:
            self._troubles.add(what)
            ALERTS.labels("rollout").inc()
            LOG.error("a rollout cannot be read, the last one stays in force", extra={"reason": str(error)})

    def _tell(self, rollout: Rollout) -> None:
        before = self.known.get(rollout.pipeline)
        if before is None or before.revision != rollout.revision:
            LOG.info(
                "%s: revision %d of its rollout (%s) is in force: stable %d, candidate %s with %g %%, shadow %s",
                rollout.pipeline,
                rollout.revision,
                rollout.act,
                rollout.stable,
                rollout.candidate or "none",
                rollout.candidate_percent,
                "on" if rollout.shadow else "off",
            )
