"""Who makes the served copy, heals and swaps beside a running server: found by an entry point, a plain one without."""

import logging
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

from wetread_embedded.config import ServerConfig
from wetread_embedded.heal import Heal
from wetread_embedded.rest import Rest
from wetread_embedded.slots import empty_slots
from wetread_embedded.store import Store, copy_repository

LOG = logging.getLogger(__name__)
GROUP = "wetread.serve"
"""Entry points of this group are called with the server's settings and its store, and return an Attendant."""


class Attendant(Protocol):
    """Looks after one server from before its start to its end."""

    @property
    def heals(self) -> Sequence[Heal]:
        """Give what was healed so far, oldest first."""
        ...

    @property
    def watched_pids(self) -> Sequence[int]:
        """Give the process ids whose death is noticed at once."""
        ...

    def prepare(self) -> None:
        """Make the served copies; the server does not run."""
        ...

    def fall_back(self, reasons: str) -> bool:
        """Put something else in the place of what did not load; False when there is nothing else to try."""
        ...

    def start(self, rest: Rest) -> None:
        """Begin to look after the server, which is ready."""
        ...

    def stop(self) -> None:
        """End; the server still runs. May be called twice, and without a start."""
        ...


class PlainAttendant:
    """Serves Git's state, and heals nothing."""

    heals: Sequence[Heal] = ()
    watched_pids: Sequence[int] = ()

    def __init__(self, config: ServerConfig, store: Store) -> None:
        self._root, self._store = config.root, store

    def prepare(self) -> None:
        """Copy both repositories, but for pipelines without their model."""
        slots = empty_slots(self._root)
        for slot in slots:
            LOG.warning("%s", slot)
        copy_repository(
            self._root / "model_repository", self._store.models, frozenset().union(*(slot.models for slot in slots))
        )
        copy_repository(self._root / "ensembles", self._store.ensembles, {slot.pipeline for slot in slots})

    def fall_back(self, reasons: str) -> bool:
        """There is only Git's state."""
        return False

    def start(self, rest: Rest) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""


def find_attendant(config: ServerConfig, store: Store) -> Attendant:
    """Return the attendant that an installed package provides, the plain one where none does."""
    for entry_point in entry_points(group=GROUP):
        attendant: Attendant = entry_point.load()(config, store)
        return attendant
    return PlainAttendant(config, store)
