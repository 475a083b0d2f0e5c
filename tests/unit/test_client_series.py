"""Series: their files and lengths arrive whole by every way, and what comes back carries its geometry."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from client_stand_in import Refusal, StandIn
from wetread_client import AsyncClient, Client, FakeTransport, Rejected, Retry, ServerError
from wetread_client.card import PipelineCard
from wetread_client.fake import fake_answer, fake_card, fake_segmentation
from wetread_client.kserve import request_header, request_tensors
from wetread_client.notes import LeftOut, Notes
from wetread_client.transport import BufferPayload, FilePayload, InferRequest, RegionSlice, SeriesPayload

if TYPE_CHECKING:
    from pathlib import Path

FILES = [bytes([number]) * (1000 + number) for number in range(1, 8)]
NO_RETRY = Retry(times=0)
TAKES_SERIES = frozenset({"DICOM", "LENGTHS"})


@pytest.fixture
def stand_in():
    with StandIn() as server:
        yield server


def written(folder: Path, files: list[bytes]) -> list[Path]:
    paths = [folder / f"IM{number}" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def client_of(*script, **options) -> tuple[Client, FakeTransport]:
    transport = FakeTransport(script, inputs=TAKES_SERIES, **options)
    return Client(pipeline="brain_mr", transport=transport, retry=NO_RETRY), transport


@pytest.mark.parametrize("way", ["http", "shm"])
@pytest.mark.parametrize("named", [True, False])
def test_every_file_of_a_series_arrives_whole_by_every_way(stand_in, tmp_path, way, named):
    stand_in.named_regions = named
    large = [*FILES, bytes(range(256)) * 20_000]
    with Client(stand_in.url, "brain_mr", transport=way) as client:
        for files in (large, written(tmp_path, large), [bytearray(large[0]), *map(memoryview, large[1:])]):
            assert client.read_series(files).segmentation is not None
    assert stand_in.series == [("brain_mr", large)] * 3


def test_a_film_s_request_has_no_lengths_and_a_series_has_them_beside_the_files():
    film = InferRequest("m", BufferPayload(b"film"), ("NOTES",))
    series = InferRequest("m", SeriesPayload([BufferPayload(b"ab"), BufferPayload(b"c")]), ("NOTES",), (), (2, 1))
    region = InferRequest("m", RegionSlice("r", 3), ("NOTES",), (), (2, 1))
    assert request_header(film) == (
        b'{"inputs":[{"name":"DICOM","shape":[1,4],"datatype":"UINT8","parameters":{"binary_data_size":4}}],'
        b'"outputs":[{"name":"NOTES","parameters":{"binary_data":true}}],"parameters":{}}'
    )
    assert [bytes(part) for part in request_tensors(film)] == [b"film"]
    lengths = np.array([2, 1], np.int64).tobytes()
    assert [bytes(part) for part in request_tensors(series)] == [b"abc", lengths]
    assert [bytes(part) for part in request_tensors(region)] == [lengths]
    for request in (series, region):
        described = json.loads(request_header(request))["inputs"][1]
        assert described == {
            "name": "LENGTHS", "shape": [1, 2], "datatype": "INT64", "parameters": {"binary_data_size": 16},
        }  # fmt: skip


def test_a_series_is_read_file_by_file_into_its_place(tmp_path):
    payload = SeriesPayload([FilePayload(path) for path in written(tmp_path, [b"first", b"", b"third"])])
    target = bytearray(b"." * 12)
    payload.copy_into(memoryview(target)[1:11])
    assert bytes(target) == b".firstthird."
    assert (payload.lengths, payload.size, bytes(payload.view())) == ((5, 0, 5), 10, b"firstthird")


def test_a_segmentation_comes_with_its_segments_and_the_place_of_every_slice():
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3
    left_out = [{"file": 2, "sop_instance_uid": "2.25.9", "why": "a localiser"}]
    answer = fake_segmentation(
        labels, segments=["grey", "white"], spacing_mm=(2.0, 0.5, 0.25), left_out=left_out, warnings=["a gap"]
    )
    client, transport = client_of(answer)
    reading = client.read_series(FILES, any_body_part=True)
    assert reading.segmentation is not None
    assert (reading.segmentation == labels).all()
    assert [(segment.value, segment.label) for segment in reading.segments] == [(1, "grey"), (2, "white")]
    assert (reading.findings, reading.novelty, reading.heatmap, reading.is_positive) == ((), None, None, False)
    assert reading.notes.left_out == (LeftOut(2, "2.25.9", "a localiser"),)
    assert reading.notes.warnings == ("a gap",)
    assert reading.notes.geometry is None
    series = reading.notes.series
    assert series is not None
    assert (series.slices, series.rows, series.columns) == (2, 3, 4)
    assert (np.array(series.affine) @ [1, 2, 3, 1]).tolist() == [0.75, 1.0, 2.0, 1.0]
    request = transport.requests[-1]
    assert request.files == tuple(FILES)
    assert (request.outputs, request.parameters) == (("NOTES", "SEGMENTATION", "CARD"), {"any_body_part": True})
    assert client.card(1).task == "segmentation"
    client.read_series(FILES)
    assert "CARD" not in transport.requests[-1].outputs


def test_a_classifier_of_series_is_read_like_one_of_films():
    client, transport = client_of(fake_answer([0.75], has_heatmap=False))
    reading = client.read_series(FILES)
    assert (reading.findings[0].probability, reading.novelty, reading.segmentation) == (0.75, 0.5, None)
    assert transport.requests[-1].outputs == ("NOTES", "PROBABILITY", "POSITIVE", "NOVELTY", "CARD")


def test_a_segmentation_that_nobody_wants_does_not_travel():
    client, transport = client_of(fake_segmentation())
    assert client.read_series(FILES, segmentation=False).segmentation is None
    assert transport.requests[-1].outputs == ("NOTES", "CARD")


def test_slices_stand_for_half_the_way_to_their_neighbours():
    document = json.loads(fake_segmentation(np.zeros((4, 2, 2), np.uint8)).outputs["NOTES"].tobytes())
    document["geometry"]["positions_mm"] = [[9, 9, -z] for z in (0, 1, 3, 7)]  # tilted or not, downwards or not
    document["geometry"]["pixel_spacing_mm"] = [10, 100]
    series = Notes.parse(json.dumps(document).encode()).series
    assert series.voxel_ml.tolist() == pytest.approx([1.0, 1.5, 3.0, 4.0])


def test_a_segmentation_of_another_shape_than_its_series_is_the_servers_error():
    answer = fake_segmentation()
    wrong = type(answer)(1, {**answer.outputs, "SEGMENTATION": np.zeros((1, 2, 4, 6), np.uint8)})
    client, _ = client_of(wrong)
    with pytest.raises(ServerError, match="2 slices of 4x5"):
        client.read_series(FILES)


@pytest.mark.parametrize("key", ["positions_mm", "sop_instance_uids", "frames"])
def test_a_geometry_that_does_not_name_every_slice_is_the_servers_error(key):
    document = json.loads(fake_segmentation().outputs["NOTES"].tobytes())
    document["geometry"][key].pop()
    with pytest.raises(ServerError, match="NOTES"):
        Notes.parse(json.dumps(document).encode())


def test_an_error_about_one_file_names_that_file_and_any_other_the_folder(tmp_path):
    paths = written(tmp_path, FILES)
    named = Rejected("InvalidDicom", "file 3 of 7: Rows (0028,0010) is missing")
    whole = Rejected("UnsupportedImage", "the series has two orientations")
    client, _ = client_of(named, whole, Rejected("InvalidDicom", "file 3 of 9 of another request"))
    for expected in (paths[2], tmp_path, tmp_path):
        with pytest.raises(Rejected) as caught:
            client.read_series(paths)
        assert caught.value.file == str(expected)
    client, _ = client_of(Rejected(named.code, named.message))
    with pytest.raises(Rejected) as caught:
        client.read_series(FILES)
    assert caught.value.file is None


@pytest.mark.parametrize("files", [[], [b"", b""]])
def test_nothing_is_rejected_without_asking(files):
    client, transport = client_of(fake_segmentation())
    with pytest.raises(Rejected, match="empty"):
        client.read_series(files)
    assert not transport.requests


def test_a_pipeline_says_by_its_inputs_what_it_takes(stand_in):
    for model, expected in (("chest_xray", False), ("brain_mr", True)):
        for way in ("http", "shm"):
            with Client(stand_in.url, model, transport=way) as client:
                assert client.takes_series() is expected
    assert client_of(fake_segmentation())[0].takes_series()
    assert not Client(transport=FakeTransport([fake_answer()])).takes_series()


def test_a_rejected_series_is_not_sent_a_second_time_by_another_way(stand_in):
    stand_in.named_regions = True
    stand_in.answer_series = lambda _: Refusal(400, "in ensemble 'brain_mr', InvalidDicom: file 1 of 7: cut short")
    with Client(stand_in.url, "brain_mr", transport="shm") as client, pytest.raises(Rejected, match="cut short"):
        client.read_series(FILES)
    assert len(stand_in.series) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(413, "Request Entity Too Large"),
        Refusal(
            400, "Request JSON size of 90000000 exceeds 67108864. Use --http-max-input-size to increase the limit."
        ),
    ],
)
def test_a_body_too_large_for_the_server_names_the_ways_around(stand_in, refusal):
    stand_in.answer_series = lambda _: refusal
    with Client(stand_in.url, "brain_mr", transport="http") as client, pytest.raises(ServerError) as caught:
        client.read_series(FILES)
    assert caught.value.code == "OUT_OF_RANGE"
    for word in ("shared memory", "gRPC", "--http-max-input-size"):
        assert word in caught.value.message


def test_a_card_has_segments_with_their_codes():
    card = PipelineCard.parse(fake_card((), segments=["a", "b"]))
    assert [(segment.value, segment.label, segment.colour) for segment in card.segments] == [
        (1, "a", (1, 100, 200)), (2, "b", (2, 100, 200)),
    ]  # fmt: skip
    assert card.segments[0].category.value == "TISSUE"
    assert card.findings == ()


def test_the_async_client_reads_series():
    async def read():
        transport = FakeTransport([fake_segmentation()], inputs=TAKES_SERIES)
        async with AsyncClient(pipeline="brain_mr", transport=transport) as client:
            assert await client.takes_series()
            return await client.read_series(FILES)

    assert asyncio.run(read()).segmentation is not None
