"""The reporter: all objects of one piece of work, and no other error than CannotReport."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_gateway.errors import CannotReport
from wetread_gateway.reading.stored import Refusal
from wetread_gateway.results.capture import capture_in_full, show, shown
from wetread_gateway.results.content import facts_of
from wetread_gateway.results.fhir import bundle
from wetread_gateway.results.heads import HeadSkeleton, complete, report_head
from wetread_gateway.results.key_objects import key_objects
from wetread_gateway.results.order import BuiltObject, ObjectKind
from wetread_gateway.results.report import SOP_CLASSES, build_in_full, to_bytes
from wetread_gateway.results.segmentation import segmentation
from wetread_gateway.results.skeleton import CannotCut, TreeSkeleton, mark
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from wetread_gateway.results.content import ContentFacts
    from wetread_gateway.results.order import ReportOrder

_KEPT = 64
"""Skeletons kept of each sort; a release and a rule need a few."""
_ANY = Refusal("", "")


class Reporter:
    """Builds results. Keeps the skeletons of reports between calls; one reporter serves one thread.

    `quick`: fill skeletons where they fit; the objects are the same to the byte without, and take ten times as long.
    """

    def __init__(self, *, quick: bool = True) -> None:
        self._quick = quick
        self._trees: dict[ContentFacts, TreeSkeleton | None] = {}
        self._heads: dict[tuple[object, ...], HeadSkeleton] = {}

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

    def _objects(self, order: ReportOrder, film: Path | None) -> Iterator[BuiltObject]:
        check(order)
        facts = facts_of(order)
        withdrawn = order.kind is WorkKind.WITHDRAW
        for kind in sorted(order.wanted, key=list(ObjectKind).index):
            if kind is ObjectKind.SEGMENTATION:
                if facts.segmentation is not None:
                    yield _built(order, kind, to_bytes(segmentation(order, facts)))
            elif kind.is_report:
                yield _built(order, kind, self._report(order, kind, facts))
            elif kind is ObjectKind.CAPTURE and not withdrawn:
                yield _built(order, kind, self._capture(order, facts, film))
            elif kind is ObjectKind.KEY_OBJECTS and withdrawn and order.predecessors:
                yield _built(order, kind, to_bytes(key_objects(order)))
            elif kind is ObjectKind.FHIR:
                yield _built(order, kind, bundle(order, facts))

    def _report(self, order: ReportOrder, kind: ObjectKind, facts: ContentFacts) -> bytes:
        skeleton = self._tree(facts) if self._quick and not facts.is_lean else None
        if skeleton is None:
            return to_bytes(build_in_full(order, kind, facts))
        head = self._head(order, kind, lambda model: build_in_full(model, kind, facts_of(model)))
        return to_bytes(report_head(head, order, kind)) + skeleton.fill(facts)

    def _capture(self, order: ReportOrder, facts: ContentFacts, film: Path | None) -> bytes:
        source = shown(order)
        if self._quick:
            head = self._head(order, ObjectKind.CAPTURE, lambda model: capture_in_full(model, model.sources[0]))
            made = head.start(order, ObjectKind.CAPTURE, source)
        else:
            made = capture_in_full(order, source)
        show(made, order, source, facts, film)
        return to_bytes(made)

    def _tree(self, facts: ContentFacts) -> TreeSkeleton | None:
        """Give the tree of the report's shape; None where it cannot be cut."""
        shape = mark(facts)
        if shape not in self._trees:
            if len(self._trees) >= _KEPT:
                self._trees.clear()
            try:
                self._trees[shape] = TreeSkeleton(shape)
            except CannotCut:
                self._trees[shape] = None
        return self._trees[shape]

    def _head(self, order: ReportOrder, kind: ObjectKind, build: Callable[[ReportOrder], Dataset]) -> HeadSkeleton:
        reading = order.reading
        release = (reading.pipeline, reading.release, reading.algorithm, reading.arm)
        source = shown(order) if kind is ObjectKind.CAPTURE else order.sources[0]
        key = (kind, order.kind, source.sop_class_uid, *release)
        if key not in self._heads:
            if len(self._heads) >= _KEPT:
                self._heads.clear()
            model = replace(order, sources=(complete(source),), reading=replace(reading, findings=(), refusal=_ANY))
            self._heads[key] = HeadSkeleton(build(model))
        return self._heads[key]


def check(order: ReportOrder) -> None:
    """Refuse an order whose objects would tell of several patients or studies, or of nothing."""
    if not order.sources:
        raise CannotReport("there is no source")
    for name in ("PatientID", "IssuerOfPatientID"):
        if len({source.by_keyword.get(name, "") for source in order.sources}) > 1:
            raise CannotReport(f"the sources disagree on {name}")
    if {source.study_instance_uid for source in order.sources} != {order.study_uid}:
        raise CannotReport("a source is of another study")


def _built(order: ReportOrder, kind: ObjectKind, data: bytes) -> BuiltObject:
    return BuiltObject(kind, order.uid(kind), SOP_CLASSES.get(kind, ""), order.study_uid, data)


def _attribute(error: Exception) -> str:
    """Name the attribute that an error is about, never its value."""
    name = getattr(error, "name", None)
    return str(name) if isinstance(name, str) else "unknown attribute"
