"""The reporter: all objects of one piece of work, and no other error than CannotReport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import SecondaryCaptureImageStorage

from wetread_gateway.errors import CannotReport
from wetread_gateway.results.capture import capture
from wetread_gateway.results.content import facts_of
from wetread_gateway.results.order import REPORT_KINDS, BuiltObject, ObjectKind
from wetread_gateway.results.report import SOP_CLASSES, build_in_full, to_bytes
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.results.order import ReportOrder


class Reporter:
    """Builds results. Keeps skeletons of reports between calls; one reporter serves one thread."""

    def build(self, order: ReportOrder, film: Path | None = None) -> tuple[BuiltObject, ...]:
        """Build what the order wants; `film`: the file whose pixels the capture shows.

        The same order gives the same bytes. CannotReport, with the reason, when no standard object can be made.
        """
        try:
            return tuple(self._objects(order, film))
        except CannotReport:
            raise
        except Exception as error:
            raise CannotReport(f"no report can be made ({type(error).__name__}: {_attribute(error)})") from error

    def _objects(self, order: ReportOrder, film: Path | None) -> list[BuiltObject]:
        if not order.sources:
            raise CannotReport("there is no source")
        made = []
        facts = facts_of(order)
        for kind in REPORT_KINDS:
            if kind in order.wanted:
                data = to_bytes(build_in_full(order, kind, facts))
                made.append(BuiltObject(kind, order.uid(kind), SOP_CLASSES[kind], order.study_uid, data))
        if ObjectKind.CAPTURE in order.wanted and order.kind is not WorkKind.WITHDRAW:
            data = to_bytes(capture(order, facts, film))
            uid = order.uid(ObjectKind.CAPTURE)
            made.append(BuiltObject(ObjectKind.CAPTURE, uid, SecondaryCaptureImageStorage, order.study_uid, data))
        return made


def _attribute(error: Exception) -> str:
    """Name the attribute that an error is about, never its value."""
    name = getattr(error, "name", None)
    return str(name) if isinstance(name, str) else "unknown attribute"
