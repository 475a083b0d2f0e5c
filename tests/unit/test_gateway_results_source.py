"""Real films are decoded and repaired in a copy; what cannot be repaired ends as a reason, never as a crash."""

import pydicom
import pytest
from films import compressed, film, to_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from report_cases import PIXELS, STUDY, chest_film, order, parsed, reading, write
from tiers import tried
from wetread_gateway.errors import CannotReport
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.source import Source


def source(folder, **attributes):
    return Source.of_file(write(folder / "film.dcm", chest_film(**attributes)))


def test_a_good_film_needs_no_repair(tmp_path):
    good = source(tmp_path)
    assert good.repairs == ()
    assert good.by_keyword["PatientName"] == "TEST^FILM"
    assert (good.rows, good.columns) == PIXELS.shape
    assert dict(good.descriptors) == {"PatientOrientation": ("L", "F"), "ImagerPixelSpacing": ("0.143", "0.143")}


@pytest.mark.parametrize(
    ("keyword", "written", "expected"),
    [
        ("PatientSex", "f", "F"),
        ("PatientSex", "male", "M"),
        ("PatientSex", "U", ""),
        ("PatientBirthDate", "1960", ""),
        ("PatientBirthDate", "20230231", ""),
        ("StudyDate", "2025-06-15", "20250615"),
        ("StudyTime", "10:11:12", "101112"),
        ("StudyTime", "25", ""),
        ("PatientAge", "3Y", "003Y"),
        ("StudyDescription", "two\\values", "two/values"),
        ("StudyID", "with\rbreak", "with break"),
        ("PatientName", "Doe^Jane\\Roe^Ann", "Doe^Jane/Roe^Ann"),
    ],
)
def test_a_wrong_value_is_mended_and_named(keyword, written, expected, tmp_path):
    mended = source(tmp_path, **{keyword: written})
    assert mended.by_keyword.get(keyword, "") == expected
    assert mended.repairs == (keyword,)


def test_a_repair_names_the_attribute_and_never_its_value(tmp_path):
    mended = source(tmp_path, PatientSex="Jane Doe", PatientBirthDate="Jane Doe")
    assert set(mended.repairs) == {"PatientSex", "PatientBirthDate"}


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyDate", "AccessionNumber", "StudyID"])
def test_a_missing_attribute_is_there_but_empty(keyword, tmp_path):
    mended = source(tmp_path, **{keyword: None})
    assert mended.by_keyword[keyword] == ""
    assert mended.repairs == (keyword,)


@pytest.mark.parametrize("keyword", ["PatientOrientation", "ImagerPixelSpacing"])
def test_half_a_geometry_is_none(keyword, tmp_path):
    mended = source(tmp_path, **{keyword: None})
    assert mended.descriptors == ()
    assert mended.repairs == (keyword,)


@pytest.mark.parametrize(
    ("names", "codec", "name"),
    [
        ("ISO_IR 100", "latin_1", "Müller^Jörg"),
        ("ISO_IR 144", "iso8859_5", "Люкс^Анна"),
        ("ISO_IR 192", "utf_8", "Wang^XiaoDong=王^小东"),
        ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
        ("\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
        ("ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
        ("", "utf_8", "Müller^Jörg"),
    ],
)
def test_a_name_keeps_every_character(names, codec, name, tmp_path):
    file = tmp_path / "film.dcm"
    raw = name.encode(codec)
    marker = b"X" * (len(raw) + len(raw) % 2)
    mistaken = names == "ISO 2022 IR 87"  # which pydicom does not write
    named = ["ISO 2022 IR 6"] if mistaken else names.split("\\") if names else None
    data = to_bytes(chest_film(PatientName=marker.decode(), SpecificCharacterSet=named))
    assert data.count(marker) == 1
    data = data.replace(marker, raw.ljust(len(marker)))
    file.write_bytes(data.replace(b"ISO 2022 IR 6 ", b"ISO 2022 IR 87") if mistaken else data)
    read = Source.of_file(file)
    assert read.by_keyword["PatientName"] == name
    report = parsed(Reporter().build(order([read], wanted=frozenset({ObjectKind.SR_ENHANCED})))[0])
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == name


def _with_bytes(path, keyword, raw, character_set):
    marker = "Q" * len(raw)
    data = to_bytes(chest_film(**{keyword: marker, "SpecificCharacterSet": character_set}))
    path.write_bytes(data.replace(marker.encode(), raw))
    return path


@pytest.mark.parametrize(("names", "raw"), [("ISO 2022 IR 6", b"A"), (None, "Müller".encode())])
def test_a_character_set_that_was_guessed_is_named_as_repaired(names, raw, tmp_path):
    file = _with_bytes(tmp_path / "film.dcm", "PatientName", raw, names)
    file.write_bytes(file.read_bytes().replace(b"ISO 2022 IR 6 ", b"ISO 2022 IR 87"))
    assert Source.of_file(file).repairs == ("SpecificCharacterSet",)


def test_a_name_that_cannot_be_decoded_ends_as_a_reason(tmp_path):
    file = _with_bytes(tmp_path / "film.dcm", "PatientName", b"M\xfcller^J\xf6rgX", "ISO_IR 192")
    with pytest.raises(CannotReport, match="PatientName") as caught:
        Source.of_file(file)
    assert "ller" not in str(caught.value)


def test_a_description_that_cannot_be_decoded_is_left_out(tmp_path):
    read = Source.of_file(_with_bytes(tmp_path / "film.dcm", "StudyDescription", b"Th\xf6rax", "ISO_IR 192"))
    assert "StudyDescription" not in read.by_keyword
    assert read.repairs == ("StudyDescription",)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Rows"])
def test_a_film_without_what_nothing_can_replace_ends_as_a_reason(keyword, tmp_path):
    broken = chest_film()
    delattr(broken, keyword)
    file = tmp_path / "film.dcm"
    file.write_bytes(to_bytes(broken))
    with pytest.raises(CannotReport, match=keyword):
        Source.of_file(file)


@pytest.mark.parametrize("uid", ["1.2.x", "", "1." * 40 + "1", "1..2"])
def test_a_wrong_study_uid_ends_as_a_reason(uid, tmp_path):
    with pytest.raises(CannotReport, match="StudyInstanceUID"):
        source(tmp_path, StudyInstanceUID=uid)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless])
def test_the_transfer_syntax_does_not_matter(syntax, tmp_path):
    expected = source(tmp_path)
    file = tmp_path / "other.dcm"
    file.write_bytes(compressed(chest_film(), syntax) if syntax == JPEG2000Lossless else to_bytes(chest_film(), syntax))
    assert Source.of_file(file) == expected


def test_a_class_that_is_no_image_ends_as_a_reason(tmp_path):
    read = source(tmp_path, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")  # an encapsulated PDF
    with pytest.raises(CannotReport):
        Reporter().build(order([read]))


def test_an_unknown_class_ends_as_a_reason(tmp_path):
    read = source(tmp_path, SOPClassUID="1.2.3.4")
    with pytest.raises(CannotReport):
        Reporter().build(order([read]))


def test_a_file_that_is_no_dicom_ends_as_a_reason(tmp_path):
    file = tmp_path / "film.dcm"
    file.write_bytes(b"not a film")
    with pytest.raises(CannotReport, match="cannot be read"):
        Source.of_file(file)


REPORTER = Reporter()
GOOD = to_bytes(film(PIXELS[:8, :8], StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1", PatientSex="F"))


@pytest.mark.slow
@settings(max_examples=tried(60, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(132, len(GOOD) - 1), junk=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_damage_anywhere_gives_a_report_or_a_reason(place, junk, cut, tmp_path):
    file = tmp_path / "film.dcm"
    file.write_bytes(GOOD[:place] + junk + (b"" if cut else GOOD[place + len(junk) :]))
    try:
        read = Source.of_file(file)
        for thing in REPORTER.build(order([read], reading(read.uid)), file):
            if thing.sop_class_uid:
                pydicom.dcmread(pydicom.filebase.DicomBytesIO(thing.data))
    except CannotReport:
        return
