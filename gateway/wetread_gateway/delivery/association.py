"""DIMSE over one association of ours: C-STORE, C-FIND, N-ACTION, and the reports that the peer sends in between."""

from __future__ import annotations

import logging
import struct
import time
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode

from wetread_gateway.delivery.command import (
    HAS_DATA_SET,
    MEDIUM,
    NO_DATA_SET,
    PENDING,
    RESPONSE,
    Command,
    CommandField,
    Element,
    number,
)
from wetread_gateway.delivery.command import decode as decode_command
from wetread_gateway.delivery.command import encode as encode_command
from wetread_gateway.delivery.upper_layer import Dropped, UpperLayer
from wetread_gateway.errors import GatewayError, TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset

    from wetread_gateway.delivery.request import Address
    from wetread_gateway.delivery.upper_layer import Context

    OnReport = Callable[[Dataset], object]

LOG = logging.getLogger(__name__)

# Every AE takes at least the second (PS3.5 10.1).
PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_SUCCESS, _PROCESSING_FAILURE, _UNRECOGNISED = 0x0000, 0x0110, 0x0211  # PS3.7 annex C
_MESSAGE_IDS = 0xFFFF


class Association:
    """An association with a peer, open when made; for one thread.

    `on_report` makes the dataset of an N-EVENT-REPORT durable: the peer hears Success when it has returned. Every
    method raises TryAgain for a peer that does not answer in time (the association is aborted then: a late answer
    would be taken for the next one's) and Dropped when the association is gone.
    """

    def __init__(
        self, address: Address, proposals: Sequence[tuple[str, tuple[str, ...]]], on_report: OnReport | None = None
    ) -> None:
        self._timeout_s = address.timeout_s
        self._on_report = on_report
        self._layer = UpperLayer(address, proposals)
        self._message_id = 0

    def context(self, abstract_syntax: str, transfer_syntax: str = "") -> Context | None:
        """Give the accepted context of an abstract syntax (and a transfer syntax); None when there is none."""
        return self._layer.context(abstract_syntax, transfer_syntax)

    def store(self, context: Context, sop_instance_uid: str, dataset: bytes | memoryview) -> int:
        """C-STORE of a dataset that is encoded in the context's transfer syntax; gives the status."""
        command: Command = {
            Element.AFFECTED_SOP_CLASS_UID: context.abstract_syntax,
            Element.COMMAND_FIELD: CommandField.C_STORE_RQ,
            Element.PRIORITY: MEDIUM,
            Element.COMMAND_DATA_SET_TYPE: HAS_DATA_SET,
            Element.AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
        }
        return self._status(self._ask(context, command, dataset)[0])

    def find(self, context: Context, identifier: Dataset, limit: int = 1000) -> tuple[int, list[Dataset]]:
        """C-FIND; gives the final status and the first `limit` matches."""
        command: Command = {
            Element.AFFECTED_SOP_CLASS_UID: context.abstract_syntax,
            Element.COMMAND_FIELD: CommandField.C_FIND_RQ,
            Element.PRIORITY: MEDIUM,
            Element.COMMAND_DATA_SET_TYPE: HAS_DATA_SET,
        }
        matches: list[Dataset] = []
        answer, data = self._ask(context, command, _encode(context, identifier))
        while self._status(answer) in PENDING:
            if len(matches) < limit:
                matches.append(_decode(context, data))
            answer, data = self._answer(CommandField.C_FIND_RQ)
        return self._status(answer), matches

    def act(self, context: Context, sop_instance_uid: str, action: int, information: Dataset) -> int:
        """N-ACTION on a well-known instance of the context's class; gives the status."""
        command: Command = {
            Element.REQUESTED_SOP_CLASS_UID: context.abstract_syntax,
            Element.COMMAND_FIELD: CommandField.N_ACTION_RQ,
            Element.COMMAND_DATA_SET_TYPE: HAS_DATA_SET,
            Element.REQUESTED_SOP_INSTANCE_UID: sop_instance_uid,
            Element.ACTION_TYPE_ID: action,
        }
        return self._status(self._ask(context, command, _encode(context, information))[0])

    def serve(self, timeout_s: float = 0.0) -> bool:
        """Take what the peer has sent unasked, waiting for it up to `timeout_s`; False when nothing came."""
        if not self._layer.is_waiting(timeout_s):
            return False
        context, command, data = self._receive()
        if command.get(Element.COMMAND_FIELD, 0) in (CommandField.N_EVENT_REPORT_RQ, CommandField.C_ECHO_RQ):
            self._respond(context, command, data)
        return True

    def release(self) -> None:
        """End it in order."""
        self._layer.release()

    def abort(self) -> None:
        """End it at once."""
        self._layer.abort()

    def _ask(self, context: Context, command: Command, data: bytes | memoryview) -> tuple[Command, bytes]:
        self._message_id = self._message_id % _MESSAGE_IDS + 1
        try:
            self._layer.send(context, encode_command({**command, Element.MESSAGE_ID: self._message_id}), data)
        except Dropped:
            raise
        except TryAgain:
            self.abort()
            raise
        field = command[Element.COMMAND_FIELD]
        assert isinstance(field, int)
        return self._answer(field)

    def _answer(self, request: int) -> tuple[Command, bytes]:
        while True:
            context, command, data = self._receive()
            field = command.get(Element.COMMAND_FIELD)
            if field == request | RESPONSE and command.get(Element.MESSAGE_ID_BEING_RESPONDED_TO) == self._message_id:
                return command, data
            if isinstance(field, int) and not field & RESPONSE:
                self._respond(context, command, data)
                continue
            self.abort()
            raise Dropped("the peer answered something that was not asked")

    def _receive(self) -> tuple[Context, Command, bytes]:
        try:
            context, command, data = self._layer.receive(time.monotonic() + self._timeout_s)
            return context, decode_command(command), data
        except Dropped:
            raise
        except TryAgain:
            self.abort()
            raise
        except ValueError as error:
            self.abort()
            raise Dropped(f"the peer broke the protocol: {error}") from error

    def _respond(self, context: Context, command: Command, data: bytes) -> None:
        field = command.get(Element.COMMAND_FIELD, 0)
        assert isinstance(field, int)
        status = _UNRECOGNISED
        if field == CommandField.C_ECHO_RQ:
            status = _SUCCESS
        elif field == CommandField.N_EVENT_REPORT_RQ and self._on_report is not None:
            status = self._report(context, data)
        answer: Command = {
            Element.COMMAND_FIELD: field | RESPONSE,
            Element.MESSAGE_ID_BEING_RESPONDED_TO: command.get(Element.MESSAGE_ID, 0),
            Element.COMMAND_DATA_SET_TYPE: NO_DATA_SET,
            Element.STATUS: status,
        }
        for element in (Element.AFFECTED_SOP_CLASS_UID, Element.AFFECTED_SOP_INSTANCE_UID, Element.EVENT_TYPE_ID):
            if element in command:
                answer[element] = command[element]
        self._layer.send(context, encode_command(answer))

    def _report(self, context: Context, data: bytes) -> int:
        assert self._on_report is not None
        try:
            self._on_report(_decode(context, data))
        # What pydicom raises for bytes that are no dataset, and `record_report` for one that is no report.
        except (GatewayError, ValueError, TypeError, KeyError, AttributeError, EOFError, struct.error) as error:
            LOG.warning("a commitment report cannot be read: %s", type(error).__name__)
            return _PROCESSING_FAILURE
        return _SUCCESS

    def _status(self, answer: Command) -> int:
        try:
            return number(answer, Element.STATUS)
        except ValueError as error:
            self.abort()
            raise Dropped(f"the peer broke the protocol: {error}") from error


def _encode(context: Context, dataset: Dataset) -> bytes:
    encoded = encode(dataset, context.transfer_syntax == ImplicitVRLittleEndian, is_little_endian=True)
    assert isinstance(encoded, bytes)
    return encoded


def _decode(context: Context, data: bytes) -> Dataset:
    found: Dataset = decode(BytesIO(data), context.transfer_syntax == ImplicitVRLittleEndian, is_little_endian=True)
    return found
