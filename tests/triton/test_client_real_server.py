"""The client against a real Triton: every way gives what a plain tritonclient gets, and restarts go unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils
from films import film, to_bytes
from killed_triton import KilledTriton
from tiers import only_full
from wetread_client import AsyncClient, Client, Reading, Rejected, Retry, Unavailable
from wetread_client.cli import main
from wetread_client.connect import connect
from wetread_client.endpoint import Endpoint
from wetread_client.http import HttpTransport
from wetread_client.regions import PREFIX
from wetread_client.shared_memory import SharedMemoryTransport
from wetread_embedded import ServerConfig

if TYPE_CHECKING:
    from types import ModuleType

    from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton

NO_RETRY = Retry(times=0)
WAYS = [("http", "shm"), ("grpc", "shm"), ("http", "http"), ("grpc", "grpc"), ("http", "auto"), ("grpc", "auto")]


def film_bytes(seed: int = 0, rows: int = 640, columns: int = 512, **attributes: object) -> bytes:
    """A film of smooth blobs: no chest, but a film to the gate and not the same for every seed."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 4095, (9, 8))
    values = np.kron(coarse, np.ones((rows // 9 + 1, columns // 8 + 1)))[:rows, :columns]
    return to_bytes(film(values.astype(np.uint16), **attributes))


def numbers(reading: Reading) -> list[float]:
    return [finding.probability for finding in reading.findings] + [reading.novelty]


def url_of(server: EmbeddedTriton, protocol: str) -> str:
    return server.http_url if protocol == "http" else server.grpc_url


def regions_of(pid: int) -> set[str]:
    """Names of the films' regions that a process holds open."""
    names = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # another thread has closed it meanwhile
            names.add(link.readlink().name)
    return {name for name in names if name.startswith(PREFIX) and not name.endswith(" (deleted)")}


def plain(module: ModuleType, address: str, dicom: bytes) -> dict[str, np.ndarray]:
    """What a team without our client gets."""
    client = module.InferenceServerClient(address)
    tensor = module.InferInput("DICOM", [1, len(dicom)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(dicom, np.uint8)[None])
    names = ("PROBABILITY", "POSITIVE", "HEATMAP", "NOVELTY", "NOTES")
    result = client.infer("chest_xray", [tensor], outputs=[module.InferRequestedOutput(name) for name in names])
    client.close()
    return {name: result.as_numpy(name) for name in names}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_way_gives_the_numbers_of_a_plain_tritonclient(server, seed):
    dicom = film_bytes(seed)
    stranger = plain(tritonclient.http, server.http_url.removeprefix("http://"), dicom)
    other = plain(tritonclient.grpc, server.grpc_url.removeprefix("grpc://"), dicom)
    for protocol, way in WAYS:
        with Client(url_of(server, protocol), transport=way) as client:
            reading = client.read(dicom)
        for answer in (stranger, other):
            expected = [*answer["PROBABILITY"][0], answer["NOVELTY"][0, 0]]
            assert numbers(reading) == pytest.approx(expected, abs=1e-5), way
            assert [finding.positive for finding in reading.findings] == answer["POSITIVE"][0].tolist()
            assert np.abs(reading.heatmap.astype(int) - answer["HEATMAP"][0]).max() <= 1
            assert list(reading.notes.warnings) == json.loads(answer["NOTES"].tobytes())["warnings"]


def test_two_films_are_read_differently(server):
    with Client(server.http_url) as client:
        assert numbers(client.read(film_bytes(0))) != pytest.approx(numbers(client.read(film_bytes(1))), abs=1e-5)


@pytest.mark.parametrize(("protocol", "way"), WAYS)
def test_a_bad_film_is_rejected_by_name_by_every_way(server, protocol, way):
    dicom = film_bytes()
    with Client(url_of(server, protocol), transport=way, retry=NO_RETRY) as client:
        with pytest.raises(Rejected) as cut:
            client.read(dicom[: len(dicom) // 2])
        with pytest.raises(Rejected) as hand:
            client.read(film_bytes(BodyPartExamined="HAND"))
        assert client.read(film_bytes(BodyPartExamined="HAND"), any_body_part=True).findings
    assert (cut.value.code, hand.value.code) == ("InvalidDicom", "UnsupportedImage")
    assert "InvalidDicom" not in cut.value.message
    assert "HAND" in hand.value.message


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_pipeline_that_is_not_served_is_unavailable(server, protocol):
    with Client(url_of(server, protocol), "knee", retry=NO_RETRY) as client:
        assert client.is_live()
        assert not client.is_ready()
        with pytest.raises(Unavailable, match="knee"):
            client.read(film_bytes())


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_served_releases_are_those_that_answer(server, protocol):
    with Client(url_of(server, protocol)) as client:
        release = client.read(film_bytes()).release
        assert release in client.releases()
        card = client.card(release)
    assert card is not None
    assert [finding.label for finding in card.findings] == ["pneumonia"]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_regions_are_registered_once_and_nothing_is_left_behind(server, protocol):
    wire = connect(url_of(server, protocol), protocol)
    with Client(transport=SharedMemoryTransport(wire, regions=2, by_name=False)) as client:
        seen = set()
        for seed in range(6):
            client.read(film_bytes(seed))
            seen |= regions_of(os.getpid())
        assert len(seen) == 1
        (name,) = seen
        assert name in registered(server)
    assert not regions_of(os.getpid())
    assert name not in registered(server)
    assert not (Path("/dev/shm") / name).exists()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_region_named_to_the_pipeline_is_read_in_place_and_never_registered(server, protocol):
    dicom = film_bytes(3)
    url = url_of(server, protocol)
    with Client(transport=SharedMemoryTransport(connect(url, protocol), by_name=False)) as client:
        expected = numbers(client.read(dicom))
    with Client(transport=SharedMemoryTransport(connect(url, protocol))) as client:
        assert numbers(client.read(dicom)) == pytest.approx(expected, abs=1e-5)
        assert len(regions_of(os.getpid())) == 1
        assert not regions_of(os.getpid()) & registered(server)
    assert not regions_of(os.getpid())


def test_a_broken_film_in_a_named_region_is_rejected_for_what_it_is(server):
    with Client(server.http_url, transport="shm") as client:
        with pytest.raises(Rejected, match="cut short"):
            client.read(film_bytes()[:-1000])
        assert client.read(film_bytes()).findings


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("wetread_film_0123456789abcdef:4096", "RegionNotFound"),
        ("../../etc/passwd:10", "InvalidDicom"),
        ("wetread_film_0123456789abcdef:-1", "InvalidDicom"),
    ],
)
def test_a_region_that_is_not_there_or_not_a_clients_is_refused_by_name(server, reference, reason):
    client = tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://"))
    tensor = tritonclient.http.InferInput("DICOM", [1, 1], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.uint8))
    with pytest.raises(tritonclient.utils.InferenceServerException, match=reason):
        client.infer("chest_xray", [tensor], parameters={"film_region": reference})
    client.close()


def registered(server: EmbeddedTriton) -> set[str]:
    client = tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://"))
    names = {region["name"] for region in client.get_system_shared_memory_status()}
    client.close()
    return names


def test_a_region_of_its_own_for_each_request_gives_the_same_numbers(server):
    dicom = film_bytes()
    wire = HttpTransport(Endpoint.parse(server.http_url))
    with Client(transport=SharedMemoryTransport(wire, pool=False)) as single, Client(server.http_url) as pooled:
        assert numbers(single.read(dicom)) == pytest.approx(numbers(pooled.read(dicom)), abs=1e-5)


def test_threads_read_many_films_at_once_without_mixing_them(server, tmp_path):
    files = []
    for seed in range(12):
        files.append(tmp_path / f"{seed}.dcm")
        files[-1].write_bytes(film_bytes(seed, rows=300 + 40 * seed))
    with Client(server.http_url, transport="shm") as client:
        single = {file: numbers(client.read(file)) for file in files}
        together = {result.file: numbers(result.reading) for result in client.read_many(files * 3, 6)}
    for file in files:
        assert together[file] == pytest.approx(single[file], abs=1e-4)


def test_the_async_client_reads_what_the_client_reads(server, tmp_path):
    files = [tmp_path / f"{seed}.dcm" for seed in range(4)]
    for seed, file in enumerate(files):
        file.write_bytes(film_bytes(seed))

    async def read() -> tuple[list[Reading], int]:
        async with AsyncClient(server.http_url, concurrency=4) as client:
            readings = await asyncio.gather(*(client.read(file) for file in files))
            many = [result async for result in client.read_many(files)]
        return readings, sum(result.reading is not None for result in many)

    readings, count = asyncio.run(read())
    with Client(server.http_url) as client:
        for file, reading in zip(files, readings, strict=True):
            assert numbers(reading) == pytest.approx(numbers(client.read(file)), abs=1e-4)
    assert count == len(files)


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "by_name"), [("http", True), *only_full(("http", False), ("grpc", False))])
def test_a_server_restarted_under_a_client_finds_no_film_at_fault(tmp_path, protocol, by_name):
    dicom = film_bytes()
    first = KilledTriton(ServerConfig.on_free_ports(store=tmp_path / "store"))
    with first:
        ports = ports_of(first)
        transport = SharedMemoryTransport(connect(url_of(first, protocol), protocol), by_name=by_name)
        client = Client(transport=transport, timeout_s=60, retry=Retry(times=20))
        before = client.read(dicom)
        assert regions_of(os.getpid())
    with client:
        with pytest.raises(Unavailable):
            client.read(dicom, deadline_s=0.5)
        with KilledTriton(ServerConfig(store=tmp_path / "store", **ports)):
            after = client.read(dicom)
            assert numbers(after) == pytest.approx(numbers(before), abs=1e-5)
            client.close()
    assert not regions_of(os.getpid())


def ports_of(server: EmbeddedTriton) -> dict[str, int]:
    urls = {"http_port": server.http_url, "grpc_port": server.grpc_url, "metrics_port": server.metrics_url}
    return {name: urlsplit(url).port for name, url in urls.items()}


@pytest.mark.parametrize("way", ["shm", "http"])
def test_the_command_line_reads_films_of_a_real_server(server, tmp_path, capsys, way):
    (tmp_path / "good.dcm").write_bytes(film_bytes())
    (tmp_path / "cut.dcm").write_bytes(film_bytes()[:-1000])
    with pytest.raises(SystemExit) as ended:
        main(["read", str(tmp_path), "--json", "--url", server.http_url, "--transport", way])
    assert ended.value.code == 1
    documents = {Path(d["file"]).name: d for d in map(json.loads, capsys.readouterr().out.splitlines())}
    assert documents["cut.dcm"]["error"]["code"] == "InvalidDicom"
    with Client(server.http_url, transport="http") as client:
        expected = numbers(client.read(film_bytes()))
    (finding,) = documents["good.dcm"]["findings"]
    assert [finding["probability"], documents["good.dcm"]["novelty"]] == pytest.approx(expected, abs=1e-5)
