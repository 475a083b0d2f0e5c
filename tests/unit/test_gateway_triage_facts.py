"""What a file's header tells, in every syntax, and what a broken or hostile one does."""

import struct
import zlib

import numpy as np
import pytest
from films import NATIVE, film, item, radiograph, to_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from triage_site import instance
from wetread_gateway.errors import BadInstance
from wetread_gateway.triage import header
from wetread_gateway.triage.facts import instance_facts, look

MADE = [item(CodeValue="109102", CodingSchemeDesignator="DCM")]
OURS = [item(Manufacturer="Wetread", PurposeOfReferenceCodeSequence=MADE)]
THEIRS = [item(Manufacturer="Another", PurposeOfReferenceCodeSequence=MADE)]


@pytest.fixture
def file(tmp_path):
    def written(data):
        path = tmp_path / "instance.dcm"
        path.write_bytes(data)
        return path

    return written


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_the_facts_are_the_same_in_every_native_syntax(file, syntax):
    data = instance(
        "1.2.9",
        syntax=syntax,
        SpecificCharacterSet="ISO_IR 192",
        StudyDescription=" Thorax für Ärzte ",
        PatientID="  P1 ",
        IssuerOfPatientID="HOSPITAL",
        InstanceNumber=7,
        NumberOfSeriesRelatedInstances=9,
        ContributingEquipmentSequence=OURS,
    )
    facts = instance_facts(file(data))
    assert facts.study_description == "Thorax für Ärzte"
    assert (facts.sop_instance_uid, facts.study_instance_uid, facts.series_instance_uid) == (
        "1.2.9",
        "1.2.3",
        "1.2.3.4",
    )
    assert (facts.patient_id, facts.issuer_of_patient_id) == ("P1", "HOSPITAL")
    assert (facts.instance_number, facts.expected_instances) == (7, 9)
    assert (facts.modality, facts.body_part, facts.view) == ("DX", "CHEST", "PA")
    assert (facts.transfer_syntax_uid, facts.has_pixels, facts.ours) == (syntax, True, True)


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_of_any_length_are_passed_over(file, undefined):
    data = film(np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    inner = item(CodeValue="1", PurposeOfReferenceCodeSequence=[item(CodeMeaning="x"), item(CodeMeaning="y")])
    data.ReferencedImageSequence = [inner, item()]
    data.ContributingEquipmentSequence = OURS
    for tag in ("ReferencedImageSequence", "ContributingEquipmentSequence"):
        data[tag].is_undefined_length = undefined
        data[tag].value[0].is_undefined_length_sequence_item = undefined
    facts = instance_facts(file(to_bytes(data)))
    assert (facts.study_instance_uid, facts.has_pixels, facts.ours) == ("1.2", True, True)


def test_the_equipment_of_others_is_not_ours(file):
    assert not instance_facts(file(instance(ContributingEquipmentSequence=THEIRS))).ours


def test_a_japanese_and_a_latin_description_are_decoded(file):
    data = instance(SpecificCharacterSet=["", "ISO 2022 IR 87"], StudyDescription="胸部")
    assert instance_facts(file(data)).study_description == "胸部"
    latin = instance(SpecificCharacterSet="ISO_IR 100", PatientID="Ä1")
    utf8 = instance(SpecificCharacterSet="ISO_IR 192", PatientID="Ä1")
    assert instance_facts(file(latin)).patient_digest == instance_facts(file(utf8)).patient_digest


def test_an_unknown_character_set_costs_a_letter_and_not_the_film(file):
    data = instance(SpecificCharacterSet="ISO_IR 100", StudyDescription="Ä").replace(b"ISO_IR 100", b"ISO_IR 999")
    assert instance_facts(file(data)).modality == "DX"


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "P2"},
        {"IssuerOfPatientID": "X"},
        {"PatientName": "SOMEBODY^ELSE"},
        {"PatientBirthDate": "19700101"},
        {"PatientSex": "F"},
        {"AccessionNumber": "A"},
        {"StudyInstanceUID": "1.9"},
    ],
)
def test_every_attribute_of_the_identity_counts(file, change):
    before = look(file(instance(PatientName="A^B"))).identity_digest
    assert look(file(instance(PatientName="A^B^^"))).identity_digest == before
    assert look(file(instance(PatientName="A^B", ViewPosition="AP"))).identity_digest == before
    assert look(file(instance(**{"PatientName": "A^B"} | change))).identity_digest != before


@pytest.mark.slow
def test_pixels_are_not_read(file, monkeypatch):
    data = instance(pixels=radiograph(2048, 2048))
    path = file(data)
    read = []
    real = header._exactly
    monkeypatch.setattr(header, "_exactly", lambda f, n: read.append(n) or real(f, n))
    instance_facts(path)
    assert sum(read) < 4096


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_what_has_no_uid_is_no_instance(file, keyword):
    with pytest.raises(BadInstance, match="it has no S"):
        instance_facts(file(instance(**{keyword: None})))


def test_a_uid_that_is_none_is_refused(file):
    data = instance(StudyInstanceUID="1.2.3").replace(b"1.2.3\0", b"../..\0", 1)
    with pytest.raises(BadInstance, match="its S"):
        instance_facts(file(data))


def test_the_files_own_meta_serves_where_the_dataset_has_no_sop_uids(file):
    dataset = film(np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.77"
    del dataset.SOPInstanceUID
    data = to_bytes(dataset)
    assert instance_facts(file(data)).sop_instance_uid == "1.2.77"


def test_a_file_without_preamble_is_read(file):
    dataset = film(np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        assert instance_facts(file(to_bytes(dataset, syntax, preamble=False))).modality == "DX"


@pytest.mark.parametrize("data", [b"", b"hello, world", bytes(200), b"\x08\0\x05\0CS" + b"\xff" * 600])
def test_what_is_no_dicom_is_refused(file, data):
    with pytest.raises(BadInstance):
        instance_facts(file(data))


def test_a_length_that_lies_takes_no_memory(file):
    data = instance(syntax=ImplicitVRLittleEndian)
    at = data.index(b"\x10\0\x20\0")
    with pytest.raises(BadInstance):
        instance_facts(file(data[: at + 4] + struct.pack("<I", 0xFFFFFFF0) + data[at + 8 :]))


def test_endless_nesting_is_refused(file):
    start = instance(PixelData=None)
    at = start.index(b"\x10\0\x10\0PN")
    opening = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(BadInstance, match="nested too deep"):
        instance_facts(file(start[:at] + opening * 5000 + start[at:]))


def test_a_deflated_bomb_is_inflated_to_its_limit_only(file, monkeypatch):
    monkeypatch.setattr(header, "INFLATED", (1 << 12, 1 << 16))
    data = instance(syntax=DeflatedExplicitVRLittleEndian)
    start = look(file(data)).dataset_at
    plain = zlib.decompress(data[start:], -15)
    at = plain.index(b"\x10\0\x10\0PN")
    padding = b"\x09\0\x10\0OB\0\0" + struct.pack("<I", 1 << 24) + bytes(1 << 24)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(plain[:at] + padding + plain[at:]) + packer.flush()
    with pytest.raises(BadInstance, match="ends within"):
        instance_facts(file(data[:start] + packed))


def test_elements_out_of_order_are_forgiven_only_when_the_pixels_are_found(file):
    data = instance(PatientID="P1", PixelData=None)
    start = look(file(data)).dataset_at
    with pytest.raises(BadInstance, match="do not ascend"):
        instance_facts(file(data + data[start:]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_come_the_answer_is_facts_or_a_reason(file, data):
    whole = instance(syntax=data.draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(132, 900))
        whole = whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + data.draw(st.integers(0, 6)) :]
    try:
        facts = instance_facts(file(whole))
    except BadInstance:
        return
    assert facts.sop_instance_uid.isascii()
