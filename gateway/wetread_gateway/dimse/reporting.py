"""A storage commitment report from a PACS (PS3.4, J.3.3): an N-EVENT-REPORT on an association that it opened."""

from __future__ import annotations

import logging
import struct
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.filereader import read_dataset
from pydicom.uid import UID
from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.dimse.status import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Status
from wetread_gateway.errors import GatewayError

if TYPE_CHECKING:
    from pydicom import Dataset

    from wetread_gateway.context import Context
    from wetread_gateway.dimse.command import Command
    from wetread_gateway.dimse.negotiation import Context as Presentation

LOG = logging.getLogger(__name__)

_EVENT_TYPES = (1, 2)  # PS3.4, table J.3.5-1: all committed; failures exist
_LARGEST = 16 << 20  # bytes: a report of 100,000 instances takes about 13 MB


class Reporting:
    """Gathers the report and hands it on; the peer's answer is Success once the report is durable."""

    def __init__(self, context: Context, command: Command, presentation: Presentation) -> None:
        self._context = context
        self._transfer_syntax = UID(presentation.transfer_syntax)
        self._status = _objection(command)
        self._data = bytearray()

    def write(self, fragment: memoryview) -> None:
        """Take a fragment of the report."""
        if len(self._data) + len(fragment) > _LARGEST:
            self._status = Status.RESOURCE_LIMITATION
        if self._status is Status.SUCCESS:
            self._data += fragment

    def finish(self) -> Status:
        """Hand the report on and give the answer's status."""
        if self._status is not Status.SUCCESS:
            return self._status
        from wetread_gateway.delivery.commitment import record_report  # noqa: PLC0415 -- only a PACS needs it

        try:
            record_report(self._context.store, self._dataset(), self._context.bells)
        # What pydicom raises for bytes that are no dataset, and delivery for one that is no report.
        except (GatewayError, ValueError, TypeError, KeyError, AttributeError, EOFError, struct.error) as error:
            LOG.warning("a storage commitment report cannot be read: %s", type(error).__name__)
            return Status.PROCESSING_FAILURE
        except SQLAlchemyError:
            LOG.exception("a storage commitment report could not be kept")
            return Status.PROCESSING_FAILURE
        return Status.SUCCESS

    def abort(self) -> None:
        """Forget it."""
        self._data.clear()

    def _dataset(self) -> Dataset:
        syntax = self._transfer_syntax
        if syntax.is_deflated:
            raise ValueError("a deflated report")
        return read_dataset(BytesIO(bytes(self._data)), syntax.is_implicit_VR, syntax.is_little_endian)


def _objection(command: Command) -> Status:
    if command.sop_class_uid != STORAGE_COMMITMENT:
        return Status.SOP_CLASS_NOT_SUPPORTED
    if command.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
        return Status.NO_SUCH_INSTANCE
    if command.event_type not in _EVENT_TYPES:
        return Status.NO_SUCH_EVENT_TYPE
    return Status.SUCCESS
