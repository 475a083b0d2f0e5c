"""One association, from its A-ASSOCIATE-RQ to its end, in a thread of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from wetread_gateway.dimse.command import BadCommand, Command
from wetread_gateway.dimse.keeping import Caller, Keeping
from wetread_gateway.dimse.reporting import Reporting
from wetread_gateway.dimse.status import STORAGE_COMMITMENT, VERIFICATION, CommandField, Status
from wetread_gateway.dimse.wire import HEADER, PDV, BadPdu, PduType, Reason, Wire, data_pdu

if TYPE_CHECKING:
    from wetread_gateway.context import Context
    from wetread_gateway.dimse.negotiation import Agreement
    from wetread_gateway.dimse.negotiation import Context as Presentation

LOG = logging.getLogger(__name__)

_LONGEST_COMMAND = 1 << 16  # bytes; ours take 300
_IS_COMMAND, _IS_LAST = 1, 2  # PS3.8, annex E.2: bits of the message control header


class Sink(Protocol):
    """Where the dataset of a message goes."""

    def write(self, fragment: memoryview) -> None:
        """Take a fragment."""

    def finish(self) -> Status:
        """The dataset is whole; give the status of the answer."""

    def abort(self) -> None:
        """The rest will not come."""


class _Fixed:
    """The sink of a message whose answer does not depend on its dataset."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def write(self, fragment: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Status:
        """Answer."""
        return self._status

    def abort(self) -> None:
        """Nothing was kept."""


class Association:
    """An agreed association: answers messages until the peer releases it or is silent too long."""

    def __init__(self, context: Context, wire: Wire, caller: Caller, agreement: Agreement, waker: int) -> None:
        self._context = context
        self._wire = wire
        self._caller = caller
        self._contexts = agreement.contexts
        self._largest = agreement.largest
        self._waker = waker
        self._words = bytearray()  # of the command set under way
        self._command: Command | None = None
        self._sink: Sink | None = None
        self._context_id = 0

    def serve(self) -> None:
        """Answer until the end; Gone, TooSlow, BadPdu. What was half received is dropped."""
        way = self._context.right_of_way()
        try:
            while self._in_message or self._wire.wait(self._context.settings.dicom.idle_s, self._waker):
                if not self._in_message:
                    if not self._caller.stat:
                        way.give_way(self._context.stop)
                    self._wire.begin()
                pdu = self._wire.receive()
                if pdu.type == PduType.DATA:
                    self._take(pdu.body)
                elif pdu.type == PduType.RELEASE_RQ:
                    self._release()
                    return
                elif pdu.type == PduType.ABORT:
                    return
                else:
                    raise BadPdu(f"a PDU of type {pdu.type}", Reason.UNEXPECTED_PDU)
            self._wire.abort(Reason.NOT_SPECIFIED)
        finally:
            if self._sink is not None:
                self._sink.abort()

    @property
    def _in_message(self) -> bool:
        return self._sink is not None or bool(self._words)

    def _release(self) -> None:
        self._wire.send(HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4))
        self._wire.linger(self._waker)

    def _take(self, body: memoryview) -> None:
        at = 0
        while at < len(body):
            if len(body) - at < PDV.size:
                raise BadPdu("a P-DATA PDU that ends inside a header", Reason.INVALID_PARAMETER)
            length, context_id, control = PDV.unpack_from(body, at)
            end = at + 4 + length
            if length < 2 or end > len(body):
                raise BadPdu("a fragment longer than its PDU", Reason.INVALID_PARAMETER)
            fragment = body[at + PDV.size : end]
            if control & _IS_COMMAND:
                self._take_command(context_id, fragment, is_last=bool(control & _IS_LAST))
            else:
                self._take_dataset(context_id, fragment, is_last=bool(control & _IS_LAST))
            at = end

    def _take_command(self, context_id: int, fragment: memoryview, *, is_last: bool) -> None:
        if self._sink is not None or context_id not in self._contexts:
            raise BadPdu("a command where none belongs", Reason.UNEXPECTED_PARAMETER)
        self._words += fragment
        if len(self._words) > _LONGEST_COMMAND:
            raise BadPdu("a command set without end", Reason.INVALID_PARAMETER)
        if not is_last:
            return
        try:
            command = Command.decode(self._words)
        except BadCommand as error:
            raise BadPdu(str(error), Reason.INVALID_PARAMETER) from error
        self._words.clear()
        if command.field == CommandField.C_CANCEL:
            return
        if command.field & CommandField.RESPONSE:
            raise BadPdu("an answer to nothing", Reason.UNEXPECTED_PARAMETER)
        self._command, self._context_id = command, context_id
        sink = self._sink_for(command, self._contexts[context_id])
        if command.has_dataset:
            self._sink = sink
        else:
            self._answer(sink)

    def _take_dataset(self, context_id: int, fragment: memoryview, *, is_last: bool) -> None:
        if self._sink is None or context_id != self._context_id:
            raise BadPdu("a dataset where none belongs", Reason.UNEXPECTED_PARAMETER)
        self._sink.write(fragment)
        if is_last:
            sink, self._sink = self._sink, None
            self._answer(sink)

    def _answer(self, sink: Sink) -> None:
        if self._command is None:
            raise ValueError("no command to answer")
        response = self._command.response(sink.finish())
        self._wire.send(data_pdu(self._context_id, response, self._largest))

    def _sink_for(self, command: Command, presentation: Presentation) -> Sink:
        syntax = presentation.abstract_syntax
        if command.field == CommandField.C_ECHO and syntax == VERIFICATION:
            return _Fixed(Status.SUCCESS)
        if command.field == CommandField.C_STORE and syntax not in (VERIFICATION, STORAGE_COMMITMENT):
            return Keeping(self._context, self._caller, command, presentation)
        if command.field == CommandField.N_EVENT_REPORT and syntax == STORAGE_COMMITMENT:
            return Reporting(self._context, command, presentation)
        return _Fixed(Status.UNRECOGNIZED_OPERATION)
