"""What the validators of this field say of our objects: dciodvfy, dcentvfy, dsrdump, dsr2html, highdicom, PixelMed."""

import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.sr import srread
from report_cases import CASES, of_kind, order, parsed, reading
from tiers import only_full
from wetread_gateway.results.order import REPORT_KINDS, ObjectKind
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.source import Source

pytestmark = pytest.mark.pacs

PIXELMED = Path("/usr/share/java/pixelmed.jar")
# What dciodvfy calls errors and are none: the length of a name with several groups, taken as one; the lengths of names
# and identifiers that are the study's own, and must stay as they are.
HARMLESS_ERRORS = re.compile(
    r"Length invalid|Value invalid for this VR|Retired Person Name form|dataset contains invalid data values"
)
HARMLESS_WARNINGS = re.compile(
    r"VR checker does not support this Specific Character Set: ISO_IR 192|template constraints not yet supported"
)
# dcentvfy compares bytes: a name in another character set and a value that was repaired differ from the film's.
_NAMES = "<PatientName>|<ReferringPhysicianName>"
MENDED = {
    "long names": _NAMES,
    "three groups": _NAMES,
    "cyrillic": _NAMES,
    "chinese": _NAMES,
    "wrong values": "<PatientSex>|<PatientBirthDate>|<StudyTime>|<StudyDate>",
}
EVERY_DAY = (
    "positive",
    "two findings",
    "an adult",
    "refused",
    "withdrawn",
    "missing slices",
    "long names",
    "wrong values",
)
OF_THE_STUDY = {"long names", "three groups"}


def tool(*command: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (make setup-system)")
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )


@pytest.fixture(scope="module")
def reporter():
    return Reporter()


@pytest.fixture(scope="module", params=[*EVERY_DAY, *only_full(*(name for name in CASES if name not in EVERY_DAY))])
def written(request, reporter, tmp_path_factory):
    """All objects of one case as files, by kind, and the source film; built once for all validators."""
    folder = tmp_path_factory.mktemp("written")
    made, film = CASES[request.param].make(folder)
    files = {}
    for thing in reporter.build(made, film):
        files[thing.kind] = folder / f"{thing.kind}.dcm"
        files[thing.kind].write_bytes(thing.data)
    return request.param, film, files


def errors(answer: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in answer.stderr.splitlines() if line.startswith("Error")]


def test_dciodvfy_finds_no_error(written):
    name, _, files = written
    for kind, file in files.items():
        if kind is not ObjectKind.FHIR:
            answer = tool("dciodvfy", file)
            found = errors(answer)
            if name in OF_THE_STUDY:
                found = [line for line in found if not HARMLESS_ERRORS.search(line)]
            assert found == [], kind
            assert answer.stderr, "dciodvfy names the IOD at least"


def test_dsrdump_warns_of_nothing(written):
    _, _, files = written
    for kind, file in files.items():
        if kind.is_report or kind is ObjectKind.KEY_OBJECTS:
            answer = tool("dsrdump", file)
            found = [line for line in answer.stderr.splitlines() if re.match(r"[WEF]:", line)]
            assert [line for line in found if not HARMLESS_WARNINGS.search(line)] == []
            assert answer.returncode == 0


def test_dsr2html_renders_every_report(written):
    _, _, files = written
    for kind, file in files.items():
        if kind.is_report:
            answer = tool("dsr2html", "+U8", file)
            assert answer.returncode == 0, answer.stderr
            assert "<html" in answer.stdout.lower()
            assert "Imaging Measurement Report" in answer.stdout


def test_highdicom_reads_its_own_work_back(written):
    name, _, files = written
    for kind in REPORT_KINDS:
        report = srread(files[kind])
        groups = report.content.get_image_measurement_groups()
        expected = 0 if name in {"refused", "withdrawn"} else 2 if name == "two findings" else 1
        assert len(groups) == expected
        for group in groups:
            assert group.source_images
            assert group.tracking_uid.startswith("2.25.")
            for measurement in group.get_measurements():
                assert 0 <= measurement.value <= 1
    if name == "withdrawn":
        document = KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(files[ObjectKind.KEY_OBJECTS]))
        assert len(document.content.get_references()) == 4


def test_patient_and_study_agree_with_the_film(written):
    name, film, files = written
    objects = [file for kind, file in files.items() if kind is not ObjectKind.FHIR]
    answer = tool("dcentvfy", film, *objects)
    mended = MENDED.get(name, "nothing")
    found = [line for line in errors(answer) if not re.search(mended, line)]
    assert found == []


def test_a_validator_notices_a_broken_report(reporter, tmp_path):
    """The tests above could pass for tools that say nothing."""
    made, film = CASES["positive"].make(tmp_path)
    built = reporter.build(made, film)
    report = parsed(of_kind(built, ObjectKind.SR_COMPREHENSIVE_3D))
    del report.CompletionFlag
    del report.ContentSequence[1].ConceptNameCodeSequence[0].CodeMeaning
    broken = tmp_path / "broken.dcm"
    report.save_as(broken)
    assert errors(tool("dciodvfy", broken))
    assert re.search(r"^[WEF]:(?!.*ISO_IR 192)", tool("dsrdump", broken).stderr, re.MULTILINE)


@pytest.mark.data
@pytest.mark.parametrize("name", ["RG2_UNC", "RG2_J2KR", "RG2_JPLL", "RG2_RLE", "MR1_UNC", "CT1_JLSL"])
def test_real_films_give_valid_objects(name, reporter, data_folder, tmp_path):
    film = data_folder / "dicom" / "film" / f"{name}.dcm"
    source = Source.of_file(film)
    read = reading(source.uid, intended_modalities=("CR", "CT", "MR"), intended_views=())
    for thing in reporter.build(order([source], read, unknown_age_is_inside=True), film):
        if thing.kind is not ObjectKind.FHIR:
            file = tmp_path / f"{thing.kind}.dcm"
            file.write_bytes(thing.data)
            assert errors(tool("dciodvfy", file)) == []


@pytest.mark.data
def test_a_real_series_gives_a_valid_report(reporter, data_folder, tmp_path):
    files = sorted((data_folder / "dicom" / "ct_chest").glob("*.dcm"))[:20]
    sources = [Source.of_file(file) for file in files]
    read = reading(sources[3].uid, intended_modalities=("CT",), intended_views=())
    made = order(sources, read, expected=22, completeness="unconfirmed", unknown_age_is_inside=True)
    built = reporter.build(made, files[3])
    assert built == Reporter(quick=False).build(made, files[3])
    report = tmp_path / "series.dcm"
    report.write_bytes(of_kind(built, ObjectKind.SR_COMPREHENSIVE_3D).data)
    assert errors(tool("dciodvfy", report)) == []
    assert "20 of 22" in str(pydicom.dcmread(report))


PIXELMED_CASES = ("positive", "an adult", "refused", "withdrawn", "missing slices")


@pytest.mark.pixelmed
@pytest.mark.full
@pytest.mark.parametrize("name", PIXELMED_CASES)
def test_pixelmed_knows_the_template(name, reporter, tmp_path):
    if not PIXELMED.is_file():
        pytest.skip(f"{PIXELMED} is not installed (make setup-pixelmed)")
    made, film = CASES[name].make(tmp_path)
    made = replace(made, wanted=frozenset({ObjectKind.SR_COMPREHENSIVE_3D}))
    report = tmp_path / "sr.dcm"
    report.write_bytes(reporter.build(made, film)[0].data)
    limits = [f"-Djdk.xml.xpath{limit}=0" for limit in ("ExprOpLimit", "TotalOpLimit", "ExprGrpLimit")]
    answer = tool("java", *limits, "-cp", PIXELMED, "com.pixelmed.validate.DicomSRValidator", report)
    lines = (answer.stdout + answer.stderr).splitlines()
    assert any("Found" in line for line in lines), lines
    found = [line for line in lines if line.startswith("Error")]
    assert [line for line in found if "not in template" not in line] == []


def test_the_picture_of_a_capture_decodes(reporter, tmp_path):
    made, film = CASES["positive"].make(tmp_path)
    capture = of_kind(reporter.build(made, film), ObjectKind.CAPTURE)
    pixels = pydicom.dcmread(io.BytesIO(capture.data)).pixel_array
    assert pixels.ndim == 3
