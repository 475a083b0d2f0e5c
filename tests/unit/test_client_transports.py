from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from client_stand_in import Refusal, StandIn
from wetread_bench.servers import free_port
from wetread_client import Client, Rejected, Retry, ServerError, Unavailable
from wetread_client import regions as regions_module
from wetread_client.connect import connect
from wetread_client.endpoint import Endpoint
from wetread_client.fake import fake_answer
from wetread_client.http import HttpTransport
from wetread_client.kserve import parse_answer, parse_error
from wetread_client.regions import PREFIX, Region, RegionPool, remove_orphans, size_class
from wetread_client.shared_memory import SharedMemoryTransport
from wetread_client.transport import BufferPayload, FilePayload, InferRequest

NO_RETRY = Retry(times=0)


def film_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def our_regions() -> set[str]:
    """Regions of this process; other tests of this machine may have some too."""
    mine = set()
    for fd in Path("/proc/self/fd").iterdir():
        target = str(fd.readlink()) if fd.exists() else ""
        if f"/{PREFIX}" in target:
            mine.add(target)
    return mine


@pytest.fixture
def stand_in():
    with StandIn() as server:
        yield server


@pytest.mark.parametrize("way", ["http", "shm", "auto"])
@pytest.mark.parametrize("size", [1, 1000, 3_000_001])
def test_every_byte_of_a_film_arrives_by_every_way(stand_in, tmp_path, way, size):
    film = film_of(size)
    file = tmp_path / "film.dcm"
    file.write_bytes(film)
    with Client(stand_in.url, transport=way) as client:
        for given in (film, bytearray(film), memoryview(film), np.frombuffer(film, np.uint8), file, str(file)):
            reading = client.read(given)
            assert reading.findings[0].probability == pytest.approx(np.frombuffer(film, np.uint8).mean() / 255)
    assert stand_in.films == [film] * 6
    assert not our_regions()
    assert not stand_in.regions


def test_parameters_and_outputs_arrive(stand_in):
    with Client(stand_in.url, transport="http") as client:
        client.read(b"x", declared_film=True, heatmap=False)
    (header,) = stand_in.headers
    assert header["parameters"] == {"declared_film": True}
    assert [output["name"] for output in header["outputs"]] == ["PROBABILITY", "POSITIVE", "NOTES", "NOVELTY", "CARD"]


def test_connections_are_kept_and_one_serves_many_requests(stand_in):
    with Client(stand_in.url, transport="http") as client:
        for _ in range(10):
            client.read(b"x")
    assert stand_in.connections == 1


@pytest.mark.slow
def test_regions_are_registered_once_and_used_again(stand_in):
    with Client(stand_in.url, transport="shm") as client:
        for seed in range(10):
            client.read(film_of(2_000_000, seed))
        assert sum(path.endswith("/register") for path in stand_in.paths) == 1
        assert len(our_regions()) == 1
        (name,) = stand_in.regions
    # Regions that killed clients of this machine left behind are unregistered, too.
    assert sum(path.endswith(f"/{name}/unregister") for path in stand_in.paths) == 1


def test_a_larger_film_gets_a_larger_region_and_a_full_pool_replaces_a_small_one(stand_in):
    transport = SharedMemoryTransport(HttpTransport(Endpoint.parse(stand_in.url)), regions=1)
    with Client(transport=transport) as client:
        for size in (1000, 5_000_000, 1000):
            client.read(film_of(size))
        assert len(our_regions()) == 1
        assert [size for _, size in stand_in.regions.values()] == [size_class(5_000_000)]
    assert not our_regions()


def test_without_a_pool_each_request_registers_a_region_of_its_own(stand_in):
    transport = SharedMemoryTransport(HttpTransport(Endpoint.parse(stand_in.url)), pool=False, regions=2)
    with Client(transport=transport) as client:
        for _ in range(5):
            client.read(b"x")
            assert not our_regions()
    assert sum(path.endswith("/register") for path in stand_in.paths) == 5
    assert not stand_in.regions


@pytest.mark.slow
def test_many_threads_share_a_few_regions_without_mixing_films(stand_in):
    transport = SharedMemoryTransport(HttpTransport(Endpoint.parse(stand_in.url)), regions=3)
    films = [bytes([n]) * (1000 + n) for n in range(40)]
    with Client(transport=transport) as client, ThreadPoolExecutor(8) as threads:
        readings = list(threads.map(client.read, films))
        assert len(our_regions()) <= 3
    assert [reading.findings[0].probability for reading in readings] == pytest.approx([n / 255 for n in range(40)])


def test_regions_lost_in_a_restart_are_registered_anew_and_the_film_is_sent_again_at_once(stand_in):
    with Client(stand_in.url, transport="shm", retry=NO_RETRY) as client:
        client.read(b"a")
        stand_in.regions.clear()
        client.read(b"b")
    assert stand_in.films == [b"a", b"b"]


def test_a_server_that_shares_no_memory_gets_films_over_http_and_is_asked_once(stand_in):
    stand_in.shares_memory = False
    with Client(stand_in.url, retry=NO_RETRY) as client:
        client.read(b"a")
        client.read(b"b")
    assert stand_in.films == [b"a", b"b"]
    assert sum(path.endswith("/register") for path in stand_in.paths) == 1
    assert not our_regions()


def test_shared_memory_that_was_asked_for_by_name_does_not_fall_back(stand_in):
    stand_in.shares_memory = False
    with Client(stand_in.url, transport="shm") as client, pytest.raises(ServerError, match="switched off"):
        client.read(b"a")


def test_a_full_dev_shm_is_no_crash(stand_in, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(regions_module.os, "posix_fallocate", full)
    with Client(stand_in.url, retry=NO_RETRY) as client:
        client.read(b"a")
    with Client(stand_in.url, transport="shm", retry=NO_RETRY) as client, pytest.raises(Unavailable, match="No space"):
        client.read(b"a")
    assert stand_in.films == [b"a"]
    assert not our_regions()


def test_a_region_whose_request_ran_out_of_time_is_not_used_for_the_next_film(stand_in):
    go_on = threading.Event()

    def slow_once(film):
        if film == b"slow":
            go_on.wait(10)
        return fake_answer()

    stand_in.answer = slow_once
    with Client(stand_in.url, transport="shm", retry=NO_RETRY) as client:
        client.read(b"first")
        (first,) = stand_in.regions
        with pytest.raises(Unavailable, match="in time"):
            client.read(b"slow", deadline_s=0.2)
        client.read(b"next")
        used = stand_in.headers[-1]["inputs"][0]["parameters"]["shared_memory_region"]
        go_on.set()
    assert used != first
    assert not our_regions()


def test_closing_waits_once_for_a_server_that_hangs_and_still_removes_every_region(stand_in, monkeypatch):
    told = []

    def hang(self, name, timeout_s):
        told.append(name)
        raise Unavailable("DEADLINE_EXCEEDED", "no answer in time")

    together = threading.Barrier(3, timeout=10)

    def answer(_):
        together.wait()
        return fake_answer()

    stand_in.answer = answer
    with Client(stand_in.url, transport="shm") as client, ThreadPoolExecutor(3) as threads:
        list(threads.map(client.read, [b"a", b"b", b"c"]))
        assert len(our_regions()) == 3
        monkeypatch.setattr(HttpTransport, "unregister_region", hang)
    assert len(told) == 1
    assert not our_regions()


def test_a_refusal_gives_the_region_back(stand_in):
    stand_in.answer = lambda film: Refusal(400, "InvalidDicom: no")
    with Client(stand_in.url, transport="shm") as client:
        for _ in range(3):
            with pytest.raises(Rejected):
                client.read(b"a")
        assert len(stand_in.regions) == 1


def test_a_pool_waits_for_a_region_until_the_deadline():
    pool = RegionPool(1)
    region, _ = pool.take(10, 1.0)
    with pytest.raises(Unavailable, match="in time"):
        pool.take(10, 0.01)
    threading.Timer(0.05, pool.give_back, [region]).start()
    assert pool.take(10, 10.0)[0] is region
    assert pool.close() == []
    assert not pool.give_back(region)
    region.close()


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) + 1, 8_389_000, 100_000_000, (1 << 30) + 1])
def test_a_size_class_holds_its_film_and_wastes_little(size):
    rounded = size_class(size)
    assert size <= rounded
    assert rounded == 1 << 20 or rounded < 1.25 * size + 2


def test_regions_of_killed_processes_are_removed_and_those_of_living_ones_are_not(tmp_path):
    living = Region(1 << 20)
    orphan = Path("/dev/shm") / f"{PREFIX}orphan{os.getpid()}"
    young = Path("/dev/shm") / f"{PREFIX}young{os.getpid()}"
    orphan.write_bytes(b"x")
    young.write_bytes(b"x")
    for path in (orphan, Path("/dev/shm") / living.name):
        os.utime(path, (time.time() - 3600,) * 2)
    try:
        assert orphan.name in remove_orphans()
        assert not orphan.exists()
        assert young.exists()
        assert (Path("/dev/shm") / living.name).exists()
    finally:
        living.close()
        young.unlink()


@pytest.mark.slow
def test_a_program_that_forgets_to_close_leaves_nothing(stand_in):
    program = (
        "import sys; from wetread_client import Client\n"
        "client = Client(sys.argv[1], transport='shm'); client.read(b'film')\n"
        f"import os; print([f for f in os.listdir('/dev/shm') if f.startswith('{PREFIX}')])"
    )
    run = subprocess.run([sys.executable, "-c", program, stand_in.url], capture_output=True, text=True, check=True)
    assert PREFIX in run.stdout
    assert stand_in.films == [b"film"]
    assert not stand_in.regions


@pytest.mark.parametrize("way", ["http", "shm", "auto"])
def test_a_server_that_is_not_there_is_unavailable(way):
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{placeholder.getsockname()[1]}"
        with Client(url, transport=way, retry=NO_RETRY) as client, pytest.raises(Unavailable) as caught:
            client.read(b"x")
        assert caught.value.code == "UNAVAILABLE"
        assert url in caught.value.message
        assert not Client(url, transport=way).is_live()
    assert not our_regions()


@pytest.mark.parametrize("way", ["http", "shm"])
def test_a_server_that_restarts_between_requests_goes_unnoticed(way):
    first = StandIn(port=free_port())
    with first:
        client = Client(first.url, transport=way, retry=NO_RETRY)
        client.read(b"a")
    # The same address again: kept connections and registered regions are those of a server that is gone.
    second = StandIn(port=first.port)
    with second, client:
        client.read(b"b")
    assert second.films == [b"b"]


def test_an_answer_that_never_ends_keeps_to_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, transport="http") as client, pytest.raises(Unavailable) as caught:
            client.read(b"x" * 1000, deadline_s=0.1)
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_proxy_that_refuses_a_body_before_reading_it_is_heard():
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse():
            for _ in range(2):  # it is asked for the pipeline's outputs first
                connection, _ = proxy.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 20):
                        pass

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        with Client(url, transport="http") as client, pytest.raises(ServerError, match="large"):
            client.read(film_of(20_000_000))
        thread.join()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://host", ("http", "host", 8000, "")),
        ("https://host/triton/", ("https", "host", 443, "/triton")),
        ("grpc://host", ("grpc", "host", 8001, "")),
        ("grpcs://[::1]:9", ("grpcs", "::1", 9, "")),
    ],
)
def test_addresses_are_read(url, endpoint):
    parsed = Endpoint.parse(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path) == endpoint


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "http://host:99999", "grpc://host/path", "http://u@h"]
)
def test_what_is_no_address_is_named(url):
    with pytest.raises(ValueError, match=r".+"):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.8.9.1", True), ("[::1]", True), ("10.0.0.1", False), ("a.b", False)],
)
def test_loopback_addresses_are_told_from_others(host, loopback):
    assert Endpoint.parse(f"http://{host}").is_loopback == loopback


@pytest.mark.parametrize(
    ("url", "way", "kind"),
    [
        ("http://127.0.0.1", "auto", "SharedMemoryTransport"),
        ("grpc://localhost", "auto", "SharedMemoryTransport"),
        ("http://far.example", "auto", "HttpTransport"),
        ("https://far.example", "auto", "HttpTransport"),
        ("grpc://far.example", "auto", "GrpcTransport"),
        ("http://127.0.0.1", "http", "HttpTransport"),
        ("grpc://127.0.0.1", "grpc", "GrpcTransport"),
        ("http://far.example", "shm", "SharedMemoryTransport"),
    ],
)
def test_the_way_is_chosen_by_the_address(url, way, kind):
    transport = connect(url, way)
    assert type(transport).__name__ == kind
    transport.close()
    transport.close()


@pytest.mark.parametrize(("url", "way"), [("http://h", "grpc"), ("grpc://h", "http"), ("http://h", "pigeon")])
def test_a_way_that_does_not_go_with_the_address_is_refused(url, way):
    with pytest.raises(ValueError, match=r"transport"):
        connect(url, way)


def test_json_tensors_are_read_like_binary_ones():
    body = b'{"model_version":"4","outputs":[{"name":"A","datatype":"FP32","shape":[1,2],"data":[1,2.5]}]}'
    answer = parse_answer(body, None)
    assert answer.model_version == 4
    assert answer.outputs["A"].tolist() == [[1.0, 2.5]]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"model_version":"1","outputs":[{"name":"A"}]}'])
def test_an_answer_that_breaks_the_protocol_is_the_servers_error(body):
    with pytest.raises(ServerError, match="KServe"):
        parse_answer(body, None)


def test_refusals_are_read_from_triton_and_from_proxies():
    assert parse_error(b'{"error":"why"}') == "why"
    assert parse_error(b"<html>Bad Gateway</html>") == "<html>Bad Gateway</html>"
    assert parse_error(b"") == "no reason given"


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path):
    file = tmp_path / "film.dcm"
    file.write_bytes(b"x" * 100)
    payload = FilePayload(file)
    file.write_bytes(b"x")
    with pytest.raises(OSError, match="shorter"):
        payload.view()


def test_a_buffers_bytes_are_not_copied():
    film = bytearray(b"abc")
    view = BufferPayload(film).view()
    film[0] = ord("z")
    assert bytes(view) == b"zbc"


def test_a_request_after_closing_says_so(stand_in):
    for way in ("http", "shm"):
        client = Client(stand_in.url, transport=way, retry=NO_RETRY)
        client.close()
        with pytest.raises(Unavailable, match="closed"):
            client.read(b"x")


def test_served_releases_are_listed(stand_in):
    with Client(stand_in.url) as client:
        assert client.releases() == (1, 3)
        assert client.is_live()
        assert client.is_ready()
    assert not Client(stand_in.url, "knee").is_ready()


def test_a_model_that_is_not_served_is_unavailable(stand_in):
    transport = connect(stand_in.url, "http")
    with pytest.raises(Unavailable, match="unknown model"):
        transport.infer(InferRequest("knee", BufferPayload(b"x"), ("PROBABILITY",)), 5.0)
    transport.close()
