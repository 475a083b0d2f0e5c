"""A PACS that does as a test says, over pynetdicom: it plays what Orthanc and DCMTK cannot be made to do.

Statuses other than Success, commitment reports that come on the same association, late, never, for nothing or for a
part, associations that are refused or dropped.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.transport import ThreadedAssociationServer
from wetread_gateway.delivery.commitment import PUSH_MODEL_INSTANCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ssl import SSLContext

    from pynetdicom.association import Association

AE_TITLE = "SCRIPTED"
POLL_S = 0.01  # how often the server looks whether it shall end
HELD_S = 300.0  # as long as tests of delivery wait: what is held too long looks like an answer


@dataclass
class Request:
    """A commitment request that came: what a report on it needs."""

    transaction_uid: str
    references: list[tuple[str, str]]
    association: Association


@dataclass
class ScriptedPacs:
    """A running peer; `with` it. Its attributes are the script, to be changed at any time.

    `statuses`: of the next C-STOREs, then Success. `aborts`: how many C-STOREs end in an abort.
    `held`: C-STOREs wait for it, `waiting` counts them. `forgets`: UIDs that
    C-FIND does not name. `requests`: for commitment; none is reported on unless the test does it.
    """

    commitment: bool = True
    find: bool = True
    refused_classes: tuple[str, ...] = ()
    tls: SSLContext | None = None
    statuses: list[int] = field(default_factory=list)
    aborts: int = 0
    action_status: int = 0
    forgets: set[str] = field(default_factory=set)
    stored: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    associations: int = 0
    held: threading.Event | None = None
    waiting: int = 0

    def __enter__(self) -> Self:
        ae = AE(AE_TITLE)
        ae.require_called_aet = True
        ae.maximum_associations = 20
        for context in StoragePresentationContexts:
            if context.abstract_syntax not in self.refused_classes:
                ae.add_supported_context(context.abstract_syntax)
        ae.add_supported_context(Verification)
        if self.commitment:
            ae.add_supported_context(StorageCommitmentPushModel)
        if self.find:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._action),
        ]
        self._ae = ae
        self._server = ae.make_server(
            ("127.0.0.1", 0), evt_handlers=handlers, ssl_context=self.tls, server_class=ThreadedAssociationServer
        )
        ae._servers.append(self._server)  # as `start_server` does, whose thread takes half a second to end
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def destination(self, **more: object) -> dict[str, object]:
        """The peer as a destination of the configuration."""
        where = {"name": "pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": self.port, "timeout_s": 60.0}
        return where | more

    def open_associations(self) -> list[Association]:
        """Give the associations that are open."""
        return [association for association in self._server.active_associations if association.is_established]

    def report(self, request: Request, failed: dict[str, int] | None = None, *, only: tuple[str, ...] = ()) -> Dataset:
        """Make the report on a request: `failed` by UID; `only` these are named when given."""
        failed = failed or {}
        report = Dataset()
        report.TransactionUID = request.transaction_uid
        items = {uid: _item(kind, uid) for kind, uid in request.references if not only or uid in only}
        report.ReferencedSOPSequence = [item for uid, item in items.items() if uid not in failed]
        if failed:
            report.FailedSOPSequence = [items[uid] for uid in failed if uid in items]
            for item in report.FailedSOPSequence:
                item.FailureReason = failed[item.ReferencedSOPInstanceUID]
        return report

    def send_on(self, request: Request, report: Dataset) -> int:
        """Send a report on the association of the request; the answer's status."""
        event = 2 if "FailedSOPSequence" in report else 1
        status, _ = request.association.send_n_event_report(
            report, event, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE
        )
        return status.Status

    def _connected(self, event: evt.Event) -> None:
        self.associations += 1
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _store(self, event: evt.Event) -> int:
        if self.held is not None:
            self.waiting += 1
            self.held.wait(HELD_S)
        if self.aborts:
            self.aborts -= 1
            event.assoc.abort()
            return 0
        status = self.statuses.pop(0) if self.statuses else 0
        if status >> 12 in (0x0, 0xB) and status in (0, *range(0xB000, 0xC000)):
            self.stored.append(event.request.AffectedSOPInstanceUID)
        return status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if query.SOPInstanceUID in self.stored and query.SOPInstanceUID not in self.forgets:
            yield 0xFF00, query

    def _action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        information = event.action_information
        references = [
            (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence
        ]
        request = Request(information.TransactionUID, references, event.assoc)
        self.requests.append(request)
        return self.action_status, None


def _item(sop_class: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
    return item
