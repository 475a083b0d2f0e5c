"""What reports say: findings, intended use, refusals, withdrawals, completeness, and how captures and FHIR say it."""

import json
import re
import uuid
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from films import JPEG2000Lossless, compressed, radiograph, to_bytes
from PIL import Image
from report_cases import CASES, EVERYTHING, Case, chest_film, of_kind, order, parsed, reading, write
from wetread_gateway.reading.stored import StoredFinding
from wetread_gateway.results import codes
from wetread_gateway.results.capture import words_of
from wetread_gateway.results.content import facts_of
from wetread_gateway.results.intended_use import age_years, judge
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.picture import Heat, Words, draw
from wetread_gateway.results.preview import preview
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.source import Source


def film_of(folder, **attributes):
    return Source.of_file(write(folder / "film.dcm", chest_film(**attributes)))


# ------------------------------------------------------------------------------------------------- intended use


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, None),
        ({"PatientAge": "005Y"}, None),
        ({"PatientAge": "006Y"}, "age 6 years"),
        ({"PatientAge": "011M"}, "age 11 months"),
        ({"PatientAge": "012M"}, None),
        ({"PatientAge": None, "PatientBirthDate": "20190616"}, None),  # the day before the sixth birthday
        ({"PatientAge": None, "PatientBirthDate": "20190615"}, "age 6 years"),
        ({"PatientAge": None, "PatientBirthDate": "20260101"}, "age unknown"),  # born after the study
        ({"PatientAge": None, "PatientBirthDate": None}, "age unknown"),
        ({"PatientAge": "x", "PatientBirthDate": None}, "age unknown"),
        ({"ViewPosition": "LL"}, "view LL"),
        ({"ViewPosition": None}, None),
        ({"Modality": "OT"}, "modality OT"),
    ],
)
def test_only_films_of_the_intended_use_are_told(attributes, reason, tmp_path):
    found = judge(film_of(tmp_path, **attributes), reading("1.2"), False)
    if reason is None:
        assert found == ()
    else:
        assert len(found) == 1
        assert reason in found[0]


def test_a_site_may_take_an_unknown_age_for_an_intended_one(tmp_path):
    source = film_of(tmp_path, PatientAge=None, PatientBirthDate=None)
    assert age_years(source) is None
    assert judge(source, reading("1.2"), True) == ()


@pytest.mark.parametrize(
    ("novelty", "told"), [(None, True), (0.99, True), (1.0, True), (1.01, False), (float("nan"), False)]
)
def test_a_novel_film_is_undetermined(novelty, told, tmp_path):
    assert (judge(film_of(tmp_path), reading("1.2", novelty=novelty), False) == ()) is told


def test_reasons_add_up(tmp_path):
    source = film_of(tmp_path, PatientAge="054Y", ViewPosition="LL")
    assert len(judge(source, reading("1.2", novelty=3), False)) == 3


# ---------------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize(("probability", "value"), [(0.9, codes.PRESENT), (0.1, codes.ABSENT)])
def test_a_finding_is_coded_by_the_release(probability, value, tmp_path):
    made, _ = Case(probability=probability).make(tmp_path)
    (finding,) = facts_of(made).findings
    assert (finding.name.value, finding.name.scheme_designator) == ("36118008", "SCT")
    assert finding.value == value
    assert finding.probability == probability


@pytest.mark.parametrize("name", ["an adult", "unknown age", "lateral", "wrong modality", "novel"])
def test_what_may_not_be_told_is_undetermined_with_its_reason(name, tmp_path):
    made, _ = CASES[name].make(tmp_path)
    facts = facts_of(made)
    assert [(finding.value, finding.probability) for finding in facts.findings] == [(codes.UNDETERMINED, None)]
    assert re.match("Outside|Unlike", facts.comments[0])


def test_a_refusal_says_why(tmp_path):
    made, _ = CASES["refused"].make(tmp_path)
    facts = facts_of(made)
    assert not facts.findings
    assert facts.codes[0] == (codes.CAD_SUMMARY, codes.NOTHING_SUCCEEDED)
    assert facts.comments[0] == "Not read: UnsupportedImage: a lateral view"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a whole series", ["Images read: 3 of 3"]),
        ("missing slices", ["Images read: 3 of 5", "Completeness of the series is not confirmed"]),
    ],
)
def test_a_series_says_what_was_read(name, lines, tmp_path):
    made, _ = CASES[name].make(tmp_path)
    assert [line for line in facts_of(made).comments if "mages read" in line or "omplete" in line] == lines


def test_a_confirmed_series_that_lacks_images_says_so(tmp_path):
    made, _ = CASES["a whole series"].make(tmp_path)
    assert "The series is not complete" in facts_of(replace(made, expected=4)).comments


def test_a_finding_of_a_series_lies_on_its_own_image(tmp_path):
    made, _ = CASES["a whole series"].make(tmp_path)
    second = made.sources[1].uid
    findings = (replace(made.reading.findings[0], source_uid=second), replace(made.reading.findings[0], source_uid=""))
    facts = facts_of(replace(made, reading=replace(made.reading, findings=findings)))
    assert [finding.images for finding in facts.findings] == [(1,), (0, 1, 2)]


@pytest.mark.slow
def test_times_are_those_of_the_reading(tmp_path):
    made, film = CASES["a zone"].make(tmp_path)
    report = parsed(of_kind(Reporter().build(made, film), ObjectKind.SR_COMPREHENSIVE))
    assert report.TimezoneOffsetFromUTC == "-0330"
    assert (report.ContentDate, report.ContentTime) == ("20250615", "113640.123456")


@pytest.mark.slow
def test_a_report_belongs_to_patient_study_and_request(tmp_path):
    made, film = CASES["a request"].make(tmp_path)
    report = parsed(of_kind(Reporter().build(made, film), ObjectKind.SR_COMPREHENSIVE_3D))
    assert (report.PatientID, report.AccessionNumber) == ("T", "A-17")
    (request,) = report.ReferencedRequestSequence
    assert request.RequestedProcedureID == "RP7"
    assert request.PlacerOrderNumberImagingServiceRequest == "P1"
    assert request.AccessionNumber == "A-17"


@pytest.mark.slow
def test_a_withdrawal_names_what_it_withdraws(tmp_path):
    made, _ = CASES["withdrawn"].make(tmp_path)
    built = Reporter().build(made)
    assert {thing.kind for thing in built} == EVERYTHING - {ObjectKind.CAPTURE, ObjectKind.SEGMENTATION}
    report = parsed(of_kind(built, ObjectKind.SR_COMPREHENSIVE_3D))
    withdrawn = {o.sop_instance_uid for o in made.predecessors}
    named = {
        item.ReferencedSOPInstanceUID
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {o.sop_instance_uid for o in made.predecessors if o.kind.is_report}
    rejected = parsed(of_kind(built, ObjectKind.KEY_OBJECTS))
    items = [item for item in rejected.ContentSequence if item.ValueType in {"IMAGE", "COMPOSITE"}]
    assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items} == withdrawn
    assert not any("ConceptNameCodeSequence" in item for item in items)
    assert json.loads(of_kind(built, ObjectKind.FHIR).data)["entry"][0]["resource"]["status"] == "entered-in-error"


# ---------------------------------------------------------------------------------------------------- capture


def capture(folder, case):
    made, film = case.make(folder)
    return parsed(of_kind(Reporter().build(made, film), ObjectKind.CAPTURE)), made


@pytest.mark.slow
def test_a_capture_is_of_the_study_and_names_its_source(tmp_path):
    picture, made = capture(tmp_path, Case())
    assert picture.StudyInstanceUID == made.study_uid
    assert picture.SeriesInstanceUID != made.sources[0].series_instance_uid
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == made.sources[0].uid
    assert picture.ContributingEquipmentSequence[0].SoftwareVersions == "release 3"
    assert max(picture.Rows, picture.Columns) <= 1024


@pytest.mark.slow
@pytest.mark.parametrize("burned_in", ["YES", "NO", None])
def test_burned_in_names_stay_declared(burned_in, tmp_path):
    assert capture(tmp_path, Case({"BurnedInAnnotation": burned_in}))[0].get("BurnedInAnnotation") == burned_in


def _coloured(pixels):
    pixels = pixels[60:700]  # the film; above and below are words
    return int(((pixels.max(-1).astype(int) - pixels.min(-1)) > 60).sum())


@pytest.mark.slow
def test_a_positive_shows_its_heatmap_and_nothing_else_does(tmp_path):
    told = ("positive", "unknown age allowed")
    silent = ("negative", "an adult", "novel", "refused", "unknown age", "lateral")
    shown = {name: _coloured(capture(tmp_path, CASES[name])[0].pixel_array) for name in told + silent}
    assert min(shown[name] for name in told) > 20_000
    assert max(shown[name] for name in silent) < 50


def test_a_capture_says_what_the_report_says(tmp_path):
    made, _ = CASES["an adult"].make(tmp_path)
    words = words_of(made, facts_of(made))
    assert words.results == ("Pneumothorax: undetermined",)
    assert any("age 54 years" in line for line in words.warnings)
    positive, _ = Case().make(tmp_path)
    words = words_of(positive, facts_of(positive))
    assert words.results == ("Pneumothorax: present, probability 0.87",)
    assert words.warnings == ()
    assert "release 3" in words.notes[-1]


@pytest.mark.slow
def test_every_result_names_release_and_arm(tmp_path):
    made, film = CASES["the candidate arm"].make(tmp_path)
    built = Reporter().build(made, film)
    which = "release 4 (candidate arm)"
    assert any(which in line for line in facts_of(made).comments)
    assert any(which in line for line in words_of(made, facts_of(made)).notes)
    for thing in built:
        if thing.kind is ObjectKind.FHIR:
            assert which in json.loads(thing.data)["entry"][0]["resource"]["conclusion"]
        else:
            equipment = parsed(thing).ContributingEquipmentSequence[0]
            assert which in equipment.ContributionDescription
    assert which in parsed(of_kind(built, ObjectKind.CAPTURE)).DerivationDescription


@pytest.mark.slow
def test_a_release_without_heatmap_and_novelty_gets_the_film_and_its_result(tmp_path):
    picture, made = capture(tmp_path, CASES["no heatmap and no novelty"])
    assert _coloured(picture.pixel_array) < 50
    assert picture.Rows > 300
    assert "heatmap" not in picture.DerivationDescription
    assert words_of(made, facts_of(made)).results == ("Pneumothorax: present, probability 0.87",)


@pytest.mark.slow
def test_a_film_that_cannot_be_decoded_gets_words_alone(tmp_path):
    made, film = Case().make(tmp_path)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(film.read_bytes()[:-2000])
    assert preview(cut) is None
    picture = parsed(of_kind(Reporter().build(made, cut), ObjectKind.CAPTURE))
    assert picture.Rows < 300


@pytest.mark.parametrize(
    ("attributes", "dense"),
    [({}, False), ({"PhotometricInterpretation": "MONOCHROME1"}, True), ({"BitsStored": 12, "HighBit": 11}, False)],
)
def test_a_preview_is_white_for_dense(attributes, dense, tmp_path):
    values = np.zeros((1000, 800), np.uint16)
    values[:, 400:] = 4000
    stored = chest_film(**{"Rows": 1000, "Columns": 800, "PixelData": values.tobytes(), **attributes})
    shown = np.asarray(preview(write(tmp_path / "film.dcm", stored)))
    assert shown.shape == (768, 614)
    left, right = shown[:, :280].mean(), shown[:, 330:].mean()
    assert bool(left > right) is dense
    assert abs(left - right) > 250


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2048, 2048), (1537, 700), (96, 80)])
def test_a_reduced_preview_is_the_full_one(size, tmp_path):
    values = radiograph(*size)
    plain = chest_film(Rows=size[0], Columns=size[1], PixelData=values.astype("<u2").tobytes())
    file, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    file.write_bytes(to_bytes(plain))
    packed.write_bytes(compressed(plain, JPEG2000Lossless))
    one, other = np.asarray(preview(file), int), np.asarray(preview(packed), int)
    packed_small = Image.fromarray(other.astype(np.uint8)).resize(one.shape[::-1], Image.Resampling.BILINEAR)
    assert np.corrcoef(one.ravel(), np.asarray(packed_small, int).ravel())[0, 1] > 0.99
    full = Image.fromarray((values >> 4).astype(np.uint8)).resize(one.shape[::-1], Image.Resampling.BILINEAR)
    assert np.corrcoef(one.ravel(), np.asarray(full, int).ravel())[0, 1] > 0.99


def test_a_heatmap_hides_nothing_where_it_is_zero():
    film = Image.fromarray(np.full((600, 500), 77, np.uint8))
    heat = Heat(np.pad(np.full((8, 8), 255, np.uint8), 24), "finding")
    whole = np.asarray(draw(film, Words(("x",), (), ()), heat))
    inside = whole[38 : 38 + 600, 134 : 134 + 500]
    assert (inside[:150] == 77).all()
    assert inside[300, 250, 0] > inside[300, 250, 2] + 40


# ------------------------------------------------------------------------------------------------------- FHIR

SYSTEMS = {"http://snomed.info/sct", "http://loinc.org", "http://dicom.nema.org/resources/ontology/DCM"}
SYSTEMS |= {"http://www.radlex.org", "http://terminology.hl7.org/CodeSystem/v2-0203"}
SYSTEMS |= {
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://terminology.hl7.org/CodeSystem/observation-category",
}
REQUIRED = {  # of FHIR R4, with the types of their values
    "DiagnosticReport": {"status": str, "code": dict, "subject": dict, "issued": str, "imagingStudy": list},
    "Observation": {"status": str, "code": dict, "subject": dict, "device": dict, "valueCodeableConcept": dict},
    "Device": {"deviceName": list, "version": list, "manufacturer": str},
}


def _codings(value):
    if isinstance(value, dict):
        yield from value.get("coding", [])
        for child in value.values():
            yield from _codings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _codings(child)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_bundle_is_fhir(name, tmp_path):
    made, film = CASES[name].make(tmp_path)
    bundle = json.loads(of_kind(Reporter().build(made, film), ObjectKind.FHIR).data)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    by_url = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    for url, resource in by_url.items():
        uuid.UUID(url.removeprefix("urn:uuid:"))
        for keyword, kind in REQUIRED[resource["resourceType"]].items():
            assert isinstance(resource[keyword], kind), keyword
        assert {coding["system"] for coding in _codings(resource)} <= SYSTEMS
        assert all(coding["code"] for coding in _codings(resource))
    report = bundle["entry"][0]["resource"]
    assert datetime.fromisoformat(report["issued"]).tzinfo is not None
    assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{made.study_uid}"
    observations = [by_url[entry["reference"]] for entry in report.get("result", [])]
    assert len(observations) == len(facts_of(made).findings)
    for observation in observations:
        version = str(made.reading.release)
        assert by_url[observation["device"]["reference"]]["version"] == [{"value": version}]
        undetermined = observation["valueCodeableConcept"]["coding"][0]["code"] == "373068000"
        assert undetermined == ("component" not in observation)
        assert undetermined == bool(observation.get("note"))


@pytest.mark.slow
def test_two_findings_are_two_observations(tmp_path):
    made, film = CASES["two findings"].make(tmp_path)
    bundle = json.loads(of_kind(Reporter().build(made, film), ObjectKind.FHIR).data)
    values = [e["resource"]["component"][0]["valueQuantity"]["value"] for e in bundle["entry"][1:3]]
    assert values == [0.91, 0.08]


def test_no_text_of_a_capture_or_log_names_the_patient(tmp_path):
    source = film_of(tmp_path, PatientName="Doe^Jane", PatientID="JD-1", PatientAge="054Y")
    made = order([source], reading(source.uid, findings=(StoredFinding("x", made_codes(), 0.5, False, 0.7),)))
    words = words_of(made, facts_of(made))
    assert not re.search("Doe|JD-1", " ".join((*words.results, *words.warnings, *words.notes)))


def made_codes():
    return (*reading("1.2").findings[0].codes,)
