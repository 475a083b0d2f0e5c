"""A series from a modality to the PACS and back: read whole, a Segmentation and a report beside it."""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from pydicom.uid import SegmentationStorage, generate_uid
from segmented_series import BOTH, segmented, segmented_files
from sent_films import INTAKE, await_objects, await_true, container, of_kind, rows, sources
from series_files import series_files
from sr_checker import problems
from volume_release import Filling, VolumeSite
from wetread_bench.hospital import GatewayPlan, Hospital
from wetread_bench.orthanc import missing
from wetread_client import Client
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.state.tables import DELIVERIES, READINGS, WORKS
from wetread_release.triton_config import TensorConfig
from wetread_release.volume_pipeline import VOLUME, VolumeSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kept_alive import KeptAlive

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]
served = [pytest.mark.triton, pytest.mark.slow]
SHAPE = (20, 64, 64)
RULE = """
[[rule]]
name = "series"
pipeline = "brain_mr"
match.modality = ["MR"]
destinations = ["pacs"]
unknown_age_is_inside = true
"""


PLAN = GatewayPlan(
    sections=(
        INTAKE,
        ("completeness", "quiet_confirmed_s = 0.2\nquiet_s = 1.0"),
    ),
    extra=RULE,
)


@pytest.fixture(scope="module")
def hospital(series_server: KeptAlive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital whose MR series go to a segmenter."""
    with Hospital(tmp_path_factory.mktemp("series"), PLAN, triton=series_server) as running:
        yield running


def ball(study: str, count: int = SHAPE[0], **attributes: object) -> list[bytes]:
    """An MR series: a bright ball in a grey one, in files."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in (count, *SHAPE[1:])), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    values = np.select([distance < 0.4, distance < 0.8], [1000, 500], 0).astype(np.int16)
    told = {"StudyInstanceUID": study, "NumberOfSeriesRelatedInstances": count, "PatientAge": "040Y", **attributes}
    return series_files(values, modality="MR", body_part="BRAIN", step_mm=3.0, attributes=told)


def send(hospital: Hospital, folder: Path, files: list[bytes]) -> None:
    """Send a series in any order but its own."""
    paths = []
    for number, file in enumerate(random.Random(5).sample(files, len(files))):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(file)
    assert hospital.storescu(paths) == 0


def errors(data: bytes, folder: Path) -> list[str]:
    """What dciodvfy finds wrong with an object, without what is harmless."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (make setup-system)")
    file = folder / f"{len(list(folder.iterdir()))}.checked.dcm"
    file.write_bytes(data)
    told = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, errors="replace", check=False).stderr
    assert told, "dciodvfy names the IOD at least"
    return [line for line in told.splitlines() if line.startswith("Error") and "<REGISTRATION>" not in line]


def written(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def pixels(dataset: pydicom.Dataset, uids: Sequence[str]) -> np.ndarray:
    """The labels of the source images named, in that order, found by the references of the frames alone."""
    return Segmentation.from_dataset(dataset).get_pixels_by_source_instance(
        list(uids), combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )


@pytest.mark.parametrize("frames", [False, True], ids=["single frames", "multi-frame"])
def test_dciodvfy_finds_no_error_in_a_segmentation_and_its_report(frames, tmp_path) -> None:
    case = segmented(tmp_path, frames=frames)
    objects = Reporter().build(case.order(wanted=BOTH | {ObjectKind.SR_ENHANCED}), case.files[0])
    assert {thing.kind for thing in objects} == BOTH | {ObjectKind.SR_ENHANCED}
    for thing in objects:
        assert errors(thing.data, tmp_path) == [], thing.kind


@pytest.mark.data
@pytest.mark.parametrize("name", ["ct_tilted", "ct_chest", "mr_t1"])
def test_real_series_give_valid_objects_with_every_pixel_in_its_place(name, data_folder, tmp_path) -> None:
    case = segmented_files(sorted((data_folder / "dicom" / name).iterdir()))
    objects = Reporter().build(case.order(case.files[::-1]), case.files[0])
    for thing in objects:
        assert errors(thing.data, tmp_path) == [], thing.kind
    seg, report = (pydicom.dcmread(io.BytesIO(thing.data)) for thing in objects)
    assert np.array_equal(pixels(seg, case.kept.sop_uids), case.labels)
    assert problems(report) == []


@pytest.mark.data
@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.full
def test_a_brain_of_384_images_comes_back_segmented_by_a_real_model(data_folder, tmp_path) -> None:
    spec = VolumeSpec("segmenter", replace(VOLUME, name="volume"), TensorConfig("logits", "FP32", (3, -1, -1, -1)))
    files = sorted((data_folder / "dicom" / "mr_t1").iterdir())
    random.Random(2).shuffle(files)
    study = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    model = data_folder / "models" / "meshnet_gw_wm.onnx"
    site = VolumeSite(tmp_path / "site", [Filling("brain_mr", "brain_mr", spec, model)])
    with site.served() as triton, Hospital(tmp_path / "hospital", PLAN, triton=triton) as hospital:
        assert hospital.storescu(files) == 0
        found = await_objects(hospital, study, 3, timeout_s=900.0)
    (report,), (seg,) = of_kind(found, "SR"), of_kind(found, "SEG")
    assert problems(report) == []
    assert errors(written(seg), tmp_path) == errors(written(report), tmp_path) == []
    assert len(sources(report)) == len(files) + 1
    volumes = [group.get_measurements()[0].value for group in volumetric(report)]
    assert all(300 < volume < 900 for volume in volumes), "white and grey matter of an adult, in ml"


def volumetric(report: pydicom.Dataset) -> list:
    return Comprehensive3DSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()


class TestOnTheWay:
    pytestmark = served

    def test_a_series_comes_back_as_a_segmentation_and_a_report_that_the_pacs_has_confirmed(
        self, hospital, tmp_path
    ) -> None:
        study = generate_uid()
        files = ball(study)
        send(hospital, tmp_path, files)
        found = await_objects(hospital, study, 3)
        (report,), (dataset,) = of_kind(found, "SR"), of_kind(found, "SEG")
        assert len(found) == 3, "and a picture"
        uids = [str(pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID) for file in files]
        assert sources(report) == {*uids, dataset.SOPInstanceUID}
        assert problems(report) == []
        assert errors(written(dataset), tmp_path) == errors(written(report), tmp_path) == []
        with Client(hospital.triton.http_url, "brain_mr") as client:
            reading = client.read_series(files)
        back = pixels(dataset, reading.notes.series.sop_instance_uids)
        assert np.array_equal(back, reading.segmentation)
        assert set(np.unique(back)) == {0, 1, 2}
        assert await_true(lambda: [work.state for work in rows(hospital, WORKS, study)] == ["finished"])
        (work,) = rows(hospital, WORKS, study)
        (delivery,) = [row for row in rows(hospital, DELIVERIES) if row.work_id == work.id]
        assert (delivery.state, delivery.confirmed_by) == ("delivered", "commitment")
        assert delivery.objects[0] == dataset.SOPInstanceUID, "the report that names it is sent after it"
        assert re.search("confirmed", work.completeness)
        assert dataset.SOPClassUID == SegmentationStorage

    def test_a_series_that_no_pipeline_reads_comes_back_as_a_result_of_its_own_kind(self, hospital, tmp_path) -> None:
        study = generate_uid()
        files = ball(study, count=2)
        send(hospital, tmp_path, files)
        found = await_objects(hospital, study, 1)
        (report,) = of_kind(found, "SR")
        assert "126010" not in container(report)  # no Imaging Measurements
        assert problems(report) == []
        assert not of_kind(found, "SEG")
        assert await_true(lambda: [work.state for work in rows(hospital, WORKS, study)] == ["finished"])
        (work,) = rows(hospital, WORKS, study)
        (reading,) = [row for row in rows(hospital, READINGS) if row.work_id == work.id]
        assert reading.document["refusal"]["code"] in ("InvalidDicom", "UnsupportedImage")
        assert reading.document["release"] == 1

    def test_a_series_under_another_patient_is_reported_anew_and_the_old_segmentation_is_withdrawn(
        self, hospital, tmp_path
    ) -> None:
        study = generate_uid()
        files = ball(study)
        send(hospital, tmp_path, files)
        before = await_objects(hospital, study, 3)
        (old,) = of_kind(before, "SEG")
        moved = tmp_path / "moved"
        moved.mkdir()
        send(hospital, moved, [patient(file, "MOVED") for file in files])
        # The corrected series' SEG, SR and picture; the withdrawal's SR and Key Object Selection.
        found = await_objects(hospital, study, 8)
        segmentations = {dataset.PatientID: dataset for dataset in of_kind(found, "SEG")}
        assert set(segmentations) == {old.PatientID, "MOVED"}
        assert segmentations["MOVED"].PixelData == old.PixelData
        (rejected,) = of_kind(found, "KO")
        named = {
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in rejected.ContentSequence
            if "ReferencedSOPSequence" in item
        }
        assert named == {dataset.SOPInstanceUID for dataset in before}
        assert rejected.PatientID == old.PatientID
        assert await_true(lambda: {work.state for work in rows(hospital, WORKS, study)} == {"finished"})


def patient(file: bytes, name: str) -> bytes:
    """The same image of somebody else."""
    dataset = pydicom.dcmread(io.BytesIO(file))
    dataset.PatientID = name
    return written(dataset)
