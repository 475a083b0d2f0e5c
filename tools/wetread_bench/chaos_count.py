"""What became of the films, told by the PACS's index and by the dead letter's folder; the gateway is never asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wetread_bench.chaos_films import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from wetread_bench.chaos_films import Planned
    from wetread_bench.orthanc import Orthanc

# Every reading has this container of TID 1500 (DCM 126010), a refused film has none.
_IMAGING_MEASUREMENTS = "126010"


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A structured report as the PACS holds it."""

    sop_uid: str
    sources: tuple[str, ...]
    """SOP Instance UIDs of its evidence, sorted."""
    is_refusal: bool
    is_successor: bool


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the PACS holds of ours: reports, and how many captures each study has."""

    reports: tuple[StoredReport, ...]
    captures: Counter[str]


def holdings(pacs: Orthanc) -> Holdings:
    """Look at every report in the PACS."""
    series = pacs.post("/tools/find", {"Level": "Series", "Query": {}, "Expand": True})
    studies = pacs.post("/tools/find", {"Level": "Study", "Query": {}, "Expand": True})
    study_uids = {str(study["ID"]): str(study["MainDicomTags"]["StudyInstanceUID"]) for study in studies}
    reports: list[StoredReport] = []
    captures: Counter[str] = Counter()
    for one in series:
        if one["MainDicomTags"].get("Modality") == "SR":
            reports += [_report(pacs.get(f"/instances/{name}/simplified-tags")) for name in one["Instances"]]
        else:
            captures[study_uids[one["ParentStudy"]]] += len(one["Instances"])
    return Holdings(tuple(reports), captures)


def _report(tags: dict[str, Any]) -> StoredReport:
    sources = sorted(
        str(instance["ReferencedSOPInstanceUID"])
        for study in tags.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study["ReferencedSeriesSequence"]
        for instance in series["ReferencedSOPSequence"]
    )
    containers = [
        str(item["ConceptNameCodeSequence"][0].get("CodeValue"))
        for item in tags.get("ContentSequence", ())
        if item.get("ConceptNameCodeSequence")
    ]
    return StoredReport(
        str(tags["SOPInstanceUID"]),
        tuple(sources),
        _IMAGING_MEASUREMENTS not in containers,
        bool(tags.get("PredecessorDocumentsSequence")),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of a run, and the film numbers behind those that should be nought."""

    figures: dict[str, int]
    lost: tuple[int, ...]
    not_delivered: tuple[int, ...]
    wrongly_dead: tuple[int, ...]
    wrongly_read: tuple[int, ...]
    without_capture: tuple[int, ...]
    with_captures: tuple[int, ...]
    """Films with more than one capture."""

    @property
    def is_right(self) -> bool:
        """Whether every film ended as it should."""
        bad = (self.lost, self.not_delivered, self.wrongly_dead, self.wrongly_read, self.without_capture)
        return not any((*bad, self.with_captures, self.figures["duplicate_srs"]))


def judge(acknowledged: Sequence[Planned], held: Holdings, dead: Iterable[str]) -> Outcome:
    """Compare what the senders were promised with what the PACS holds. `dead`: studies in the dead letter's folder."""
    read = {source for report in held.reports if not report.is_refusal for source in report.sources}
    refused = {source for report in held.reports if report.is_refusal for source in report.sources}
    buried = set(dead)
    good = [film for film in acknowledged if film.kind is Kind.READABLE]
    bad = [film for film in acknowledged if film.kind is not Kind.READABLE]
    is_read = {film.identity.number for film in acknowledged if film.identity.sop_uid in read}
    is_dead = {
        film.identity.number
        for film in acknowledged
        if film.identity.number not in is_read
        and (film.identity.sop_uid in refused or film.identity.study_uid in buried)
    }
    lost = tuple(f.identity.number for f in acknowledged if f.identity.number not in is_read | is_dead)
    not_delivered = tuple(film.identity.number for film in good if film.identity.number not in is_read)
    figures = {
        "acknowledged": len(acknowledged),
        "delivered": len(good) - len(not_delivered),
        "readable_not_delivered": len(not_delivered),
        "dead_letter": len(is_dead),
        "planted_bad": len(bad),
        "lost": len(lost),
        "duplicate_srs": duplicates(held.reports),
    }
    return Outcome(
        figures,
        lost,
        not_delivered,
        wrongly_dead=tuple(film.identity.number for film in good if film.identity.number in is_dead),
        wrongly_read=tuple(film.identity.number for film in bad if film.identity.number in is_read),
        without_capture=tuple(
            f.identity.number for f in good if f.identity.number in is_read and not held.captures[f.identity.study_uid]
        ),
        with_captures=tuple(f.identity.number for f in good if held.captures[f.identity.study_uid] > 1),
    )


def duplicates(reports: Iterable[StoredReport]) -> int:
    """Count the reports beyond one for the same sources; nothing in this run is read again."""
    counted = Counter(report.sources for report in reports)
    return sum(times - 1 for times in counted.values())


def dead_studies(spool: Path) -> list[str]:
    """Give the studies in the dead letter, as `ls` shows them."""
    return [
        folder.name for name in ("dead", "quarantine") for folder in (spool / name).glob("*") if any(folder.iterdir())
    ]
