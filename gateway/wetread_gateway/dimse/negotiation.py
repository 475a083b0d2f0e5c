"""Who may associate, and for what: A-ASSOCIATE-RQ to AC or RJ."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.sop_class import _STORAGE_CLASSES

from wetread_gateway.dimse.status import STORAGE_COMMITMENT, VERIFICATION
from wetread_gateway.dimse.wire import HEADER, BadPdu, PduType, Reason
from wetread_gateway.spool.meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Settings

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7, annex A
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."  # PS3.4, annex B.5; Q/R, worklist and print lie elsewhere
_STORAGE = frozenset(_STORAGE_CLASSES.values())
# What pynetdicom raises for bytes that are no A-ASSOCIATE-RQ.
_NOT_A_REQUEST = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)


class Rejected(Exception):
    """The association is refused: result, source and reason of PS3.8, table 9-21."""

    def __init__(self, message: str, result: int, source: int, reason: int) -> None:
        super().__init__(message)
        self.codes = (result, source, reason)

    def pdu(self) -> bytes:
        """Encode the A-ASSOCIATE-RJ."""
        pdu = A_ASSOCIATE_RJ()
        pdu.result, pdu.source, pdu.reason_diagnostic = self.codes
        return bytes(pdu.encode())


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a peer asks for, before anybody has said yes."""

    calling_ae: str
    called_ae: str
    stat: bool
    request: A_ASSOCIATE


@dataclass(frozen=True, slots=True)
class Agreement:
    """An association as it was agreed. `largest`: of P-DATA PDUs that the peer takes, in bytes; 0: any."""

    contexts: dict[int, Context]
    largest: int
    answer: bytes


def is_storage(abstract_syntax: str) -> bool:
    """Whether it is a storage SOP class, known or not, or a private one that looks like it."""
    if abstract_syntax in _STORAGE or abstract_syntax.startswith(_STORAGE_ROOT):
        return True
    return not abstract_syntax.startswith(_DICOM_ROOT)


def read_request(body: memoryview, settings: Settings, address: str) -> Proposal:
    """Read an A-ASSOCIATE-RQ and check who calls whom; BadPdu, or Rejected with the reason."""
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(HEADER.pack(PduType.ASSOCIATE_RQ, len(body)) + bytes(body))
        request = pdu.to_primitive()
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        version, application = pdu.protocol_version, request.application_context_name
        contexts = request.presentation_context_definition_list
        well_formed = all(context.abstract_syntax and context.transfer_syntax for context in contexts)
    except _NOT_A_REQUEST as error:
        raise BadPdu("no A-ASSOCIATE-RQ", Reason.INVALID_PARAMETER) from error
    if not well_formed or request.user_information is None:
        raise BadPdu("an incomplete A-ASSOCIATE-RQ", Reason.INVALID_PARAMETER)
    if not version & 1:
        raise Rejected("protocol version not supported", 1, 2, 2)
    if application != APPLICATION_CONTEXT:
        raise Rejected("application context name not supported", 1, 1, 2)
    dicom = settings.dicom
    if called not in (dicom.ae_title, dicom.stat_ae_title):
        raise Rejected("called AE title not recognised", 1, 1, 7)
    peers = [peer for peer in settings.peer if peer.ae_title == calling]
    allowed = [peer for peer in peers if not peer.host or _is_at(address, peer.host)]
    # A title that the table ties to an address is good from there alone, whoever else may call.
    if not allowed and (peers or not dicom.any_peer):
        raise Rejected("calling AE title not recognised", 1, 1, 3)
    stat = called == dicom.stat_ae_title or any(peer.stat for peer in allowed)
    return Proposal(calling, called, stat, request)


def agree(proposal: Proposal, settings: Settings) -> Agreement:
    """Accept what looks like storage, verification, and commitment reports; encode the A-ASSOCIATE-AC."""
    request = proposal.request
    proposed = request.presentation_context_definition_list
    roles, largest = {}, 0
    for item in request.user_information:
        if hasattr(item, "scp_role"):
            roles[item.sop_class_uid] = (item.scu_role, item.scp_role)
        elif isinstance(item, MaximumLengthNotification):
            largest = item.maximum_length_received
    try:
        results, replies = negotiate_as_acceptor(proposed, _supported(proposed), roles)
    except _NOT_A_REQUEST as error:
        raise BadPdu("contexts that cannot be answered", Reason.INVALID_PARAMETER) from error
    _refuse_commitment_as_a_service(results, roles)
    contexts = {
        context.context_id: Context(str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in results
        if context.result == 0
    }
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title, answer.called_ae_title = request.calling_ae_title, request.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = [*_about_us(settings.dicom.max_pdu), *replies]
    return Agreement(contexts, largest, bytes(A_ASSOCIATE_AC(answer).encode()))


def _supported(proposed: list[PresentationContext]) -> list[PresentationContext]:
    syntaxes: dict[str, dict[str, None]] = {}
    for context in proposed:
        uid = str(context.abstract_syntax)
        if is_storage(uid) or uid in (VERIFICATION, STORAGE_COMMITMENT):
            syntaxes.setdefault(uid, {}).update(dict.fromkeys(context.transfer_syntax))
    supported = []
    for uid, transfer_syntaxes in syntaxes.items():
        ours = PresentationContext()
        ours.abstract_syntax = uid
        ours.transfer_syntax = list(transfer_syntaxes)
        # The roles that the *peer* may have: it stores, and it reports on commitment as the SCP that it is.
        ours.scu_role, ours.scp_role = (False, True) if uid == STORAGE_COMMITMENT else (True, False)
        supported.append(ours)
    return supported


def _refuse_commitment_as_a_service(
    results: list[PresentationContext], roles: dict[str, tuple[bool | None, bool | None]]
) -> None:
    for context in results:
        peer_is_scp = (roles.get(context.abstract_syntax) or (None, None))[1]
        if context.abstract_syntax == STORAGE_COMMITMENT and not peer_is_scp:
            context.result = 1  # PS3.8, table 9-18: user rejection; we are no archive


def _about_us(max_pdu: int) -> list[object]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]


def _is_at(address: str, host: str) -> bool:
    if address == host:
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return any(entry[4][0] == address for entry in found)
