"""Series on a real Triton, read by the gateway's reader beside it and by one far away."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from volume_release import SEGMENTER, Filling, VolumeSite, phantom
from waiting import wait_for
from wetread_client import Client, Retry, ServerError, Unavailable
from wetread_gateway.reading.canary import canary_film
from wetread_gateway.reading.pipeline import Pipeline
from wetread_gateway.reading.segmentation_table import reading_of
from wetread_gateway.state.tables import WorkState
from wetread_models.volume_networks import level_segmenter
from works import Works, configuration, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_embedded import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SHAPE = (12, 40, 48)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("segmenter")
    site = VolumeSite(folder, [Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter())])
    with site.served() as running:
        yield running


@pytest.fixture
def works(tmp_path: Path, segmenter: EmbeddedTriton) -> Iterator[Works]:
    made = Works.open(configuration(tmp_path, url=segmenter.http_url, lease_s=5.0), "test")
    yield made
    made.close()


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-m", *map(str, words)])
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def read_all(works: Works, *ids: int) -> bool:
    return wait_for(lambda: all(works.row(work).state == WorkState.READ for work in ids), 60)


def kept(works: Works, work: int):
    with works.context.store.read() as connection:
        return reading_of(connection, work)


def test_a_series_is_read_whole_beside_the_server_and_from_far_away_and_both_say_what_the_client_says(works, segmenter):
    sent = phantom(SHAPE, seed=3)
    turned = sent.files[::-1]
    near = works.add(*turned, pipeline="brain_mr")
    with process("wetread_gateway.process", "reader", "reader-0", "--config", works.context.live.file):
        assert read_all(works, near)
    far = works.add(*turned, pipeline="brain_mr")
    with (
        serving(works.context) as url,
        process("wetread_gateway.reading.remote", "--url", url, "--triton", segmenter.http_url, "--lease", 5),
    ):
        assert read_all(works, far)
    with Client(segmenter.http_url, "brain_mr") as client:
        told = client.read_series(list(sent.files))
    assert set(np.unique(told.segmentation)) == {0, 1, 2}
    for work in (near, far):
        reading = kept(works, work)
        assert np.array_equal(reading.segmentation.pixels(), told.segmentation)
        assert reading.segmentation.sop_uids == told.notes.series.sop_instance_uids
        assert (reading.release, reading.findings, reading.refusal) == (told.release, (), None)


def test_a_series_that_is_refused_is_a_result_that_names_its_release_also_when_it_comes_first(works):
    short = works.add(*phantom((3, 40, 48)).files, pipeline="brain_mr")
    broken = works.add(b"no", b"DICOM", pipeline="brain_mr")
    with process("wetread_gateway.process", "reader", "reader-0", "--config", works.context.live.file):
        assert read_all(works, short, broken)
    for work in (short, broken):
        reading = kept(works, work)
        assert reading.refusal.code in ("InvalidDicom", "UnsupportedImage")
        assert (reading.release, reading.segmentation) == (1, None)
        assert reading.algorithm


def test_a_series_pipeline_that_lives_passes_its_probe_and_a_film_alone_is_no_proof_of_anything(segmenter):
    client = Client(segmenter.http_url, "brain_mr", retry=Retry(times=0))
    pipeline = Pipeline(client)
    pipeline.probe()
    assert pipeline.release()[0] == 1
    # Without LENGTHS there is no answer: neither a refusal of ours nor a reason to pass a probe.
    with pytest.raises((ServerError, Unavailable)):
        client.read(canary_film())
    pipeline.close()
