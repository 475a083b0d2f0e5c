"""What a store object has given before: revisions only grow, so a store that shrinks is not the one that it was."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wetread_client.rollout.store import StoreAway

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wetread_client.rollout.document import Rollout


class Seen:
    """Notices an unmounted share or an emptied etcd: else all would fall back to what the servers ship.

    A caller asks what is `known` before it looks, and hands that in with what it found: another thread may have seen
    more meanwhile.
    """

    def __init__(self) -> None:
        self._revisions: dict[str, int] = {}
        self._lock = threading.Lock()

    def known(self) -> Mapping[str, int]:
        """Give the highest revision of each pipeline so far."""
        with self._lock:
            return dict(self._revisions)

    def note(self, known: Mapping[str, int], pipeline: str, found: Rollout | None, where: str) -> None:
        """Remember what was read; StoreAway when it is older than what was known."""
        revision = found.revision if found else 0
        if revision < known.get(pipeline, 0):
            raise _lost(where, f"revision {known[pipeline]} of {pipeline}")
        if revision:
            with self._lock:
                self._revisions[pipeline] = max(revision, self._revisions.get(pipeline, 0))

    def check(self, known: Mapping[str, int], pipelines: Collection[str], where: str) -> None:
        """Raise StoreAway when a pipeline that was known is not among those found."""
        if missing := sorted(known.keys() - set(pipelines)):
            raise _lost(where, f"rollouts of {', '.join(missing)}")


def _lost(where: str, what: str) -> StoreAway:
    return StoreAway(
        f"{where} held {what} before and does not now: it is not mounted, or was emptied; if that was meant, restart "
        "the servers and gateways that follow it"
    )
