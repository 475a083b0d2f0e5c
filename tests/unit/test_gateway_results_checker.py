"""The checker of AI content: silent for every report of ours, and each of its checks catches a broken one."""

from copy import deepcopy

import pytest
from report_cases import CASES, Case, of_kind, parsed
from sr_checker import problems
from wetread_gateway.results.order import REPORT_KINDS
from wetread_gateway.results.reporter import Reporter


@pytest.fixture(scope="module")
def reporter():
    return Reporter()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_report_says_what_it_must(name, reporter, tmp_path):
    made, film = CASES[name].make(tmp_path)
    built = reporter.build(made, film)
    for kind in REPORT_KINDS:
        assert problems(parsed(of_kind(built, kind))) == []


def _group(report):
    return next(i for i in report.ContentSequence if _value(i) == "126010").ContentSequence[0]


def _value(item):
    return item.ConceptNameCodeSequence[0].CodeValue


def _without(value, of=lambda report: report):
    def breaks(report):
        parent = of(report)
        kept = [item for item in parent.ContentSequence if _value(item) != value]
        assert len(kept) < len(parent.ContentSequence)
        parent.ContentSequence = kept

    return breaks


def _set(keyword, value, of=lambda report: report):
    return lambda report: setattr(of(report), keyword, value)


def _probability(report):
    return next(i for i in _group(report).ContentSequence if i.ValueType == "NUM")


def _measured(report):
    return _probability(report).MeasuredValueSequence[0]


def _evaluation(report):
    return next(i for i in _group(report).ContentSequence if i.ValueType == "CODE" and i.RelationshipType == "CONTAINS")


def _no_image(report):
    group = _group(report)
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "IMAGE"]


def _twice(report):
    container = next(i for i in report.ContentSequence if _value(i) == "126010")
    container.ContentSequence = [container.ContentSequence[0], deepcopy(container.ContentSequence[0])]


def _lost_library_image(report):
    library = next(i for i in report.ContentSequence if _value(i) == "111028").ContentSequence[0]
    library.ContentSequence = []


def _family(report):
    family = next(i for i in _group(report).ContentSequence if _value(i) == "111000")
    family.ConceptCodeSequence[0].CodeValue = "111234"


def _own_predecessor(report):
    sequence = deepcopy(report.CurrentRequestedProcedureEvidenceSequence)
    sequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = report.SOPInstanceUID
    report.PredecessorDocumentsSequence = sequence


def _version(report):
    next(i for i in _group(report).ContentSequence if _value(i) == "111003").TextValue = "4"


def _blank(value):
    def breaks(report):
        next(i for i in _group(report).ContentSequence if _value(i) == value).TextValue = " "

    return breaks


def _undetermined(report):
    _evaluation(report).ConceptCodeSequence[0].CodeValue = "373068000"


def _give_reason(report):
    comments = report.ContentSequence[-1].ContentSequence
    comments[0].TextValue = "Outside the intended use"


def _nothing_said(report):
    report.ContentSequence = [i for i in report.ContentSequence if _value(i) not in {"126010", "C0034375"}]


BROKEN = {
    "not a report of ours": _set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.11"),
    "the root template is not TID 1500": lambda r: setattr(r.ContentTemplateSequence[0], "TemplateIdentifier", "2000"),
    "nobody has verified it": _set("VerificationFlag", "VERIFIED"),
    "it is not preliminary": _set("PreliminaryFlag", "FINAL"),
    "completion is not stated": _set("CompletionFlagDescription", ""),
    "its times have no zone": lambda r: delattr(r, "TimezoneOffsetFromUTC"),
    "it is its own predecessor": _own_predecessor,
    "no device observer": _without("121005"),
    "no device observer UID": _without("121012"),
    "no procedure reported": _without("121058"),
    "evidence of another study": lambda r: setattr(
        r.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", "1.2.3"
    ),
    "no image library": _without("111028"),
    "evidence that is not in the image library": _lost_library_image,
    "an image that is not in the evidence": lambda r: delattr(r, "CurrentRequestedProcedureEvidenceSequence"),
    "no contributing equipment with a release": lambda r: delattr(r, "ContributingEquipmentSequence"),
    "neither findings nor a coded reason for their absence": _nothing_said,
    "a tracking UID twice": _twice,
    "undetermined without a reason": _undetermined,
    "undetermined with a probability": _undetermined,
    "told although there is a reason not to": _give_reason,
    "no tracking identifier": _blank("112039"),
    "no tracking UID": _without("112040", _group),
    "no algorithm name": _without("111001", _group),
    "no algorithm version, or one that is not the release": _version,
    "the algorithm family is not AI": _family,
    "no source image": _no_image,
    "not one evaluation as present, absent or undetermined": lambda r: setattr(
        _evaluation(r).ConceptCodeSequence[0], "CodeValue", "1"
    ),
    "not one probability": _without("122157", _group),
    "the unit of a probability is 1": lambda r: setattr(_measured(r).MeasurementUnitsCodeSequence[0], "CodeValue", "%"),
    "a probability outside 0 to 1": _set("NumericValue", "2.5", _measured),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", BROKEN)
def test_a_broken_report_is_caught(problem, reporter, tmp_path):
    made, film = Case().make(tmp_path)
    report = parsed(reporter.build(made, film)[0])
    assert problems(report) == []
    BROKEN[problem](report)
    assert problem in problems(report)
