"""Rollouts in etcd: for servers, gateways and commands that share no file system.

<prefix>/rollouts/<pipeline>/revisions/<20 digits>  all revisions; the newest is in force
<prefix>/rollouts/<pipeline>/agents/<agent>         the last report of each agent
<prefix>/locks/<pipeline>                           the writer's, under a lease that its process keeps alive
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wetread_client.rollout.document import Rollout, RolloutError
from wetread_client.rollout.etcd_connection import EtcdAddress, EtcdConnection, decoded, encoded, span
from wetread_client.rollout.seen import Seen
from wetread_client.rollout.store import AgentReport, Conflict, StoreAway, WriterBusy

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.2
"""How often a watcher looks: a change is in force elsewhere within a second."""
LEASE_S = 5
"""A writer that is killed keeps others out for so long."""
_LOCK_POLL_S = 0.1
_PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class EtcdStore:
    """A RolloutStore in etcd. A revision is created only where its key is free and the one before is there."""

    def __init__(self, address: EtcdAddress) -> None:
        self._address = address
        self._etcd = EtcdConnection(address)
        self._seen = Seen()
        self._root = f"{address.prefix}/rollouts/"
        self._told: tuple[int, int] | None = None
        self._telling = threading.Lock()

    @classmethod
    def at(cls, url: str) -> EtcdStore:
        """Open etcd://host:port/prefix; RolloutError when that is no address."""
        return cls(EtcdAddress.parse(url))

    @property
    def where(self) -> str:
        """Give the address, for messages."""
        return self._address.where

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a rollout, in order."""
        known = self._seen.known()
        keys = [key[len(self._root) :].split("/") for key, _ in self._range(span(self._root), keys_only=True)]
        found = tuple(sorted({words[0] for words in keys if words[1] == "revisions"}))
        self._seen.check(known, found, self.where)
        return found

    def read(self, pipeline: str) -> Rollout | None:
        """Give the rollout in force, None where there is none."""
        known = self._seen.known()
        newest = self._range(span(self._revisions(pipeline)), sort_order="DESCEND", sort_target="KEY", limit=1)
        rollout = self._parse(pipeline, *newest[0]) if newest else None
        self._seen.note(known, pipeline, rollout, self.where)
        return rollout

    def write(self, rollout: Rollout) -> None:
        """Put the next revision in force; Conflict unless it follows the one in force."""
        rollout.check()
        key, before = (self._revision(rollout.pipeline, rollout.revision - back) for back in (0, 1))
        compare = [{"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}]
        if rollout.revision > 1:
            compare.append({"key": encoded(before), "target": "CREATE", "result": "GREATER", "create_revision": "0"})
        document = rollout.dump()
        put = {"request_put": {"key": encoded(key), "value": encoded(document)}}
        answer = self._etcd.call("/kv/txn", {"compare": compare, "success": [put], "failure": []})
        if answer.get("succeeded"):
            return
        if self._etcd.repeated and [document] == [value for _, value in self._range({"key": encoded(key)})]:
            return  # it was ours: the first answer was lost
        raise Conflict(
            f"revision {rollout.revision} of {rollout.pipeline} does not follow the one in force: somebody else took a "
            "step; look and try again"
        )

    def history(self, pipeline: str) -> tuple[Rollout, ...]:
        """Give all revisions, oldest first."""
        return tuple(self._parse(pipeline, *each) for each in self._range(span(self._revisions(pipeline))))

    @contextmanager
    def writer(self, pipeline: str, timeout_s: float = 0.0) -> Iterator[None]:
        """Hold the one writer's lock of a pipeline; it ends with its process. WriterBusy after `timeout_s`.

        Between processes that lose sight of etcd for longer than a lease two could hold it; `write` still lets only
        one of them through.
        """
        key = f"{self._address.prefix}/locks/{_checked(pipeline)}"
        with self._lease() as lease:
            deadline = time.monotonic() + timeout_s
            while not self._take(key, lease):
                if time.monotonic() >= deadline:
                    raise WriterBusy(f"another command is changing {pipeline} now: wait until it has ended")
                time.sleep(_LOCK_POLL_S)
            yield

    def changed(self, stop: threading.Event, timeout_s: float) -> bool:
        """Wait until any rollout or report may have changed, `stop` is set or the time is up; say whether one may."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                seen = self._state()
            except StoreAway:
                stop.wait(min(POLL_S, timeout_s))  # so that a caller that asks on and on does not spin
                raise
            with self._telling:
                if seen != self._told:
                    self._told = seen
                    return True
            if stop.wait(min(POLL_S, max(deadline - time.monotonic(), 0.0))) or time.monotonic() >= deadline:
                return False

    def report(self, report: AgentReport) -> None:
        """Put an agent's report in the place of its last one."""
        self._etcd.call("/kv/put", {"key": encoded(self._report(report)), "value": encoded(report.dump())})

    def reports(self, pipeline: str) -> tuple[AgentReport, ...]:
        """Give the last report of every agent, also of those that ended long ago."""
        return self._reports(f"{self._root}{_checked(pipeline)}/agents/")

    def all_reports(self) -> tuple[AgentReport, ...]:
        """Give the reports of all pipelines."""
        return self._reports(self._root)

    def _reports(self, prefix: str) -> tuple[AgentReport, ...]:
        found = []
        for key, value in self._range(span(prefix)):
            if "/agents/" not in key.removeprefix(self._root):
                continue
            try:
                found.append(AgentReport.parse(value))
            except RolloutError as error:
                raise RolloutError(f"{self.where}: {key}: {error}") from error
        return tuple(found)

    def forget(self, report: AgentReport) -> None:
        """Remove an agent's report: it ended in order."""
        self._etcd.call("/kv/deleterange", {"key": encoded(self._report(report))})

    def _revisions(self, pipeline: str) -> str:
        return f"{self._root}{_checked(pipeline)}/revisions/"

    def _revision(self, pipeline: str, revision: int) -> str:
        return f"{self._revisions(pipeline)}{revision:020d}"  # so that the order of keys is that of numbers

    def _report(self, report: AgentReport) -> str:
        return f"{self._root}{_checked(report.pipeline)}/agents/{quote(report.agent, safe='')}"

    def _parse(self, pipeline: str, key: str, value: bytes) -> Rollout:
        try:
            rollout = Rollout.parse(value)
        except RolloutError as error:
            raise RolloutError(f"{self.where}: {key}: {error}") from error
        if key != self._revision(pipeline, rollout.revision) or rollout.pipeline != pipeline:
            raise RolloutError(f"{self.where}: {key} is revision {rollout.revision}: it was put there by hand")
        return rollout

    def _range(self, keys: dict[str, str], **options: Any) -> list[tuple[str, bytes]]:
        """Give keys and values, by key unless told."""
        answer = self._etcd.call("/kv/range", {**keys, **options})
        return [(decoded(each["key"]).decode(), decoded(each.get("value", ""))) for each in answer.get("kvs", ())]

    def _state(self) -> tuple[int, int]:
        """Give what differs after every change: the newest modification, and how many keys there are."""
        newest = {"sort_order": "DESCEND", "sort_target": "MOD", "limit": 1, "keys_only": True}
        # Serializable: whichever member answers; it may lag by a moment, and costs the others nothing.
        answer = self._etcd.call("/kv/range", {**span(self._root), **newest, "serializable": True})
        return max((int(each["mod_revision"]) for each in answer.get("kvs", ())), default=0), int(
            answer.get("count", 0)
        )

    def _take(self, key: str, lease: str) -> bool:
        compare = [{"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}]
        ours = {"key": encoded(key), "target": "LEASE", "result": "EQUAL", "lease": lease}
        put = {"request_put": {"key": encoded(key), "value": encoded(lease), "lease": lease}}
        if self._etcd.call("/kv/txn", {"compare": compare, "success": [put], "failure": []}).get("succeeded"):
            return True
        # Taken already: by us, where the first answer was lost.
        return bool(self._etcd.call("/kv/txn", {"compare": [ours], "success": [], "failure": []}).get("succeeded"))

    @contextmanager
    def _lease(self) -> Iterator[str]:
        """Hold a lease, kept alive by a thread of this process; what is under it goes at the end."""
        lease = str(self._etcd.call("/lease/grant", {"TTL": LEASE_S, "ID": 0})["ID"])
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep_alive, args=(lease, ended), name="rollout-lease", daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            ended.set()
            keeper.join()
            with suppress(StoreAway):  # then it runs out
                self._etcd.call("/kv/lease/revoke", {"ID": lease})

    def _keep_alive(self, lease: str, ended: threading.Event) -> None:
        while not ended.wait(LEASE_S / 4):
            with suppress(StoreAway):  # the next turn may reach it
                self._etcd.call("/lease/keepalive", {"ID": lease})


def _checked(pipeline: str) -> str:
    if not _PIPELINE.fullmatch(pipeline):
        raise RolloutError(f"{pipeline!r} is no pipeline's name")
    return pipeline
