"""The agent as the attendant of an embedded server: the entry point `wetread.serve`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wetread_embedded.store import copy_repository

from wetread_release.agent.healer import Healer
from wetread_release.agent.served import ServedCopy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_embedded import Heal, ServerConfig
    from wetread_embedded.rest import Rest
    from wetread_embedded.store import Store


class Attendant:
    """Makes the served copy before the server starts, then follows the rollout and heals."""

    def __init__(self, config: ServerConfig, store: Store) -> None:
        self._config, self._store = config, store
        self._served = ServedCopy(store.models, store.ensembles)
        self._lock = threading.Lock()
        self._healer: Healer | None = None

    @property
    def heals(self) -> Sequence[Heal]:
        """What was healed so far, oldest first."""
        return self._healer.heals if self._healer else ()

    @property
    def watched_pids(self) -> Sequence[int]:
        """The process ids whose death is noticed at once."""
        return self._healer.watched_pids if self._healer else ()

    def prepare(self) -> None:
        """Make the served copies."""
        copy_repository(self._config.root / "model_repository", self._store.models)
        copy_repository(self._config.root / "ensembles", self._store.ensembles)

    def fall_back(self, reasons: str) -> bool:
        """Tell whether there is something else to serve."""
        return False

    def start(self, rest: Rest) -> None:
        """Begin to heal."""
        if self._config.heal:
            self._healer = Healer(
                rest,
                self._served,
                self._store.prefix,
                canary_interval_s=self._config.canary_interval_s,
                load_timeout_s=self._config.startup_timeout_s,
                lock=self._lock,
                on_heal=self._config.on_heal,
            )
            self._healer.start()

    def stop(self) -> None:
        """End."""
        if self._healer is not None:
            self._healer.stop()


def attend(config: ServerConfig, store: Store) -> Attendant:
    """Return the agent for one embedded server."""
    return Attendant(config, store)
