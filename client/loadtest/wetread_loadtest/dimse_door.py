"""C-STORE over one association on a plain socket: pynetdicom's messages without its threads, which gevent starves."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT_ID = 1
_MAX_PDU = 1 << 17
# PDU types (PS3.8, 9.3)
_ACCEPTED, _REJECTED, _DATA, _RELEASED = 2, 3, 4, 6
_IMPLEMENTATION = UID("2.25.319014583627540915733110256091347125906")
SUCCESS = 0  # PS3.4, table B.2-1


class Rejected(Exception):
    """The association was rejected."""


class NotStored(Exception):
    """The conversation ended otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What is sent: the file's data set, without its preamble and file meta information."""

    sop_uid: str
    dataset: bytes

    @classmethod
    def of(cls, sop_uid: str, file: bytes) -> Instance:
        """Take a DICOM file (PS3.10): the group length says where the data set begins."""
        (length,) = struct.unpack_from("<I", file, 140)
        return cls(sop_uid, file[144 + length :])


def store(
    address: tuple[str, int],
    titles: tuple[str, str],
    sop_class: str,
    instances: Sequence[Instance],
    *,
    timeout_s: float,
) -> list[int]:
    """Send instances of one class over one association; gives each one's status.

    `titles`: the calling AE title and the called.

    Raises:
        Rejected: by the door, which is busy.
        NotStored: the peer aborted, or spoke otherwise than C-STORE.
        OSError: the network.
    """
    with socket.create_connection(address, timeout_s) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        longest = _associate(wire, titles, sop_class)
        statuses = [_store_one(wire, number, one, sop_class, longest) for number, one in enumerate(instances, 1)]
        release = A_RELEASE_RQ()
        release.from_primitive(A_RELEASE())
        wire.sendall(release.encode())
        if _receive(wire)[0] != _RELEASED:
            raise NotStored("no answer to the release")
        return statuses


def _associate(wire: socket.socket, titles: tuple[str, str], sop_class: str) -> int:
    """Give the peer's longest PDU."""
    ask = A_ASSOCIATE()
    ask.application_context_name = UID("1.2.840.10008.3.1.1.1")
    ask.calling_ae_title, ask.called_ae_title = titles
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = _MAX_PDU, _IMPLEMENTATION
    ask.user_information = [length, implementation]
    context = build_context(sop_class, ExplicitVRLittleEndian)
    context.context_id = _CONTEXT_ID
    ask.presentation_context_definition_list = [context]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(ask)
    wire.sendall(request.encode())
    kind, pdu = _receive(wire)
    if kind == _REJECTED:
        raise Rejected("the association was rejected")
    if kind != _ACCEPTED:
        raise NotStored(f"a PDU of type {kind} instead of an association")
    accepted = A_ASSOCIATE_AC()
    accepted.decode(pdu)
    (result,) = accepted.to_primitive().presentation_context_definition_results_list
    if result.result != 0:
        raise NotStored("the presentation context was not accepted")
    return int(accepted.user_information.maximum_length or _MAX_PDU)


def _store_one(wire: socket.socket, number: int, one: Instance, sop_class: str, longest: int) -> int:
    ask = C_STORE()
    ask.MessageID, ask.Priority = number, 2
    ask.AffectedSOPClassUID, ask.AffectedSOPInstanceUID = UID(sop_class), UID(one.sop_uid)
    ask.DataSet = BytesIO(one.dataset)
    message = C_STORE_RQ()
    message.primitive_to_message(ask)
    for part in message.encode_msg(_CONTEXT_ID, min(longest, _MAX_PDU)):
        data = P_DATA_TF()
        data.from_primitive(part)
        wire.sendall(data.encode())
    answer = DIMSEMessage()
    while True:
        kind, pdu = _receive(wire)
        if kind != _DATA:
            raise NotStored(f"a PDU of type {kind} instead of an answer")
        data = P_DATA_TF()
        data.decode(pdu)
        if answer.decode_msg(data.to_primitive()):
            primitive = answer.message_to_primitive()
            if getattr(primitive, "AffectedSOPInstanceUID", None) != one.sop_uid:
                raise NotStored("the answer is of another instance")
            return int(primitive.Status)


def _receive(wire: socket.socket) -> tuple[int, bytes]:
    head = _exactly(wire, 6)
    return head[0], head + _exactly(wire, int.from_bytes(head[2:], "big"))


def _exactly(wire: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = wire.recv(count - len(found))
        if not data:
            raise NotStored("the peer went away")
        found += data
    return bytes(found)
