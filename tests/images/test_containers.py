"""The built images, run as their own user on a read-only root: films go in, reports come out."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pydicom
import pytest
from container import Container
from image_site import built, running
from wetread_bench.hospital import storescu

if TYPE_CHECKING:
    from pathlib import Path

    from buildah import Buildah
    from image_site import Site

pytestmark = [pytest.mark.images, pytest.mark.full]
_WAIT_S = 60.0


def reports(pacs: Path) -> list[pydicom.Dataset]:
    """Give the structured reports that the PACS has in full."""
    found = []
    for path in pacs.iterdir():
        try:
            dataset = pydicom.dcmread(path)
        except (pydicom.errors.InvalidDicomError, EOFError):
            continue  # it is being written
        if dataset.get("Modality") == "SR":
            found.append(dataset)
    return found


def report_of(film: Path, pacs: Path) -> pydicom.Dataset:
    """Wait for the report of a film's study."""
    study = pydicom.dcmread(film, stop_before_pixels=True).StudyInstanceUID
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for report in reports(pacs):
            if report.StudyInstanceUID == study:
                return report
        time.sleep(0.05)  # storescp tells nobody what it wrote
    pytest.fail(f"no report of {study} came")


@pytest.mark.parametrize("name", ["gateway", "release", "all-in-one"])
def test_an_image_runs_as_its_user_without_powers_and_can_write_nowhere_but_tmp(buildah: Buildah, name, tmp_path):
    with Container(buildah, built(buildah, name), [], tmp_path / "log") as container:
        told = container.output(
            "sh", "-c", "id -u; id -g; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; "
            "for f in / /opt/wetread /etc /var/lib/wetread /usr/lib; do touch $f/x; done; touch /tmp/x && echo tmp"
        )  # fmt: skip
    assert told.startswith("10001\n10001\n")
    assert told.count("0000000000000000") == 2
    assert "NoNewPrivs:\t1" in told
    assert told.count("Read-only file system") == 5
    assert "\ntmp\n" in told


@pytest.mark.parametrize("name", ["gateway", "release", "all-in-one"])
def test_nothing_of_the_machine_that_built_it_is_in_an_image(buildah: Buildah, name, tmp_path):
    with Container(buildah, built(buildah, name), [], tmp_path / "log") as container:
        told = container.output("sh", "-c", "ls -d /etc/pip.conf /run/machine /src /wheels /opt/builder /opt/wetread")
        names = container.output("find", "/opt/wetread", "-name", "tests", "-o", "-name", "pip", "-maxdepth", "6")
    assert [line for line in told.splitlines() if "No such file" not in line] == ["/opt/wetread"]
    assert names == ""


def test_the_gateway_image_takes_a_film_and_sends_its_report_to_the_pacs(gateway: Site, films):
    sent = storescu(gateway.dicom_port, films[:1])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    report = report_of(films[0], gateway.pacs)
    assert report.VerificationFlag == "UNVERIFIED"
    assert list(gateway.state.rglob("*")), "the spool is the mount"


def test_the_demo_image_reads_a_film_that_is_posted_to_its_door(demo: Site, films):
    answer = httpx.post(
        f"{demo.url}/v1/read", content=films[1].read_bytes(), headers={"Content-Type": "application/dicom"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert "chest_xray" in json.dumps(answer.json())


def test_the_demo_image_takes_a_film_and_sends_its_report_to_the_pacs(demo: Site, films):
    assert storescu(demo.dicom_port, films[2:3]).returncode == 0
    assert report_of(films[2], demo.pacs).SeriesDescription


def test_the_release_image_prepares_a_store_for_a_triton_from_what_it_ships(buildah: Buildah, store_mounts, tmp_path):
    mounts, models = store_mounts
    with Container(buildah, built(buildah, "release"), mounts, tmp_path / "log") as container:
        told = container.output("wetread", "release", "agent", "--store", "/models", "--prepare")
    assert "ready for a server" in told
    assert (models / "ensembles" / "chest_xray" / "config.pbtxt").is_file()
    assert (models / "model_repository" / "chest_xray_classifier" / "1" / "model.onnx").is_file()


def test_a_stopped_gateway_ends_in_order(buildah: Buildah, demo: Site, tmp_path):
    with running(buildah, "gateway", tmp_path, demo.triton_port) as site:
        assert site.container.stop() == 0
