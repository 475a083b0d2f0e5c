"""Bad peers: none disturbs the others, and none leaves anything behind."""

from __future__ import annotations

import random
import shutil
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from receiver_rig import Receiver, associate, data, film, receiver, store_command
from tiers import tried
from waiting import wait_for
from wetread_gateway.dimse.wire import HEADER

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu is not installed (dcmtk)"),
]
PEERS = tried(80, 10_000)
GROWTH_MB = 60  # of a receiver over its memory before the fuzz: 36 buffers of 128 KB, 100 threads and slack
LIMITS = "any_peer = true\nartim_s = 5.0\nidle_s = 20.0\nslowest_bytes_per_s = 1000"
STRICT_LIMITS = "any_peer = true\nartim_s = 0.3\nidle_s = 1.0\nslowest_bytes_per_s = 1000"  # too strict for storescu


def spoil(rng: random.Random, message: bytes) -> bytes:
    """Change, cut, repeat or lengthen it somewhere."""
    spoilt = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(spoilt))
        match rng.randrange(5):
            case 0:
                spoilt[at] = rng.randrange(256)
            case 1:
                del spoilt[at + 1 :]
            case 2:
                spoilt[at:at] = rng.randbytes(rng.randrange(60))
            case 3:
                spoilt[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 131073)))
            case 4:
                spoilt += spoilt[at:]
    return bytes(spoilt)


def bad_peer(port: int, seed: int) -> None:
    """One bad association; whatever the door does with it is right as long as it lives."""
    rng = random.Random(seed)
    store = data(3, store_command()) + data(0, rng.randbytes(3000)) + data(2, rng.randbytes(3000))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        peer.settimeout(0.5)
        try:
            match rng.randrange(6):
                case 0:
                    peer.sendall(rng.randbytes(rng.randrange(1, 400)))
                case 1:
                    peer.sendall(spoil(rng, associate()))
                case 2:
                    peer.sendall(associate() + spoil(rng, store))
                case 3:
                    peer.sendall(associate() + store[: rng.randrange(len(store))])
                case 4:
                    peer.sendall(associate() + spoil(rng, store_command()) + HEADER.pack(4, 0xFFFFFFFF))
                case 5:
                    peer.sendall(HEADER.pack(rng.choice((1, 4, 0xFF)), rng.choice((0, 1 << 18, 0xFFFFFFFF))))
            if rng.random() < 0.5:
                peer.shutdown(socket.SHUT_WR)
                peer.recv(4096)
        except OSError:
            return  # the door has closed it, as it may


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory):
    with receiver(tmp_path_factory.mktemp("door"), LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def strict_door(tmp_path_factory: pytest.TempPathFactory):
    with receiver(tmp_path_factory.mktemp("strict-door"), STRICT_LIMITS) as running:
        yield running


def test_bad_peers_disturb_nobody_and_leave_nothing(door: Receiver, tmp_path: Path) -> None:
    path = film(tmp_path / "film.dcm", "1.2.9", 200_000)
    assert "(Success)" in door.send(path)
    before, good = door.memory_mb(), 0

    def fuzz(first: int) -> None:
        for seed in range(first, PEERS, 4):
            bad_peer(door.port, seed)

    threads = [threading.Thread(target=fuzz, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    is_over = False
    while not is_over:
        is_over = not any(thread.is_alive() for thread in threads)
        said = door.send(path)
        assert "(Success)" in said, said
        good += 1
        assert door.memory_mb() < before + GROWTH_MB
    assert door.process.poll() is None
    assert wait_for(lambda: not list((door.folder / "spool/associations").iterdir()))
    assert len(door.left()) == len(door.received()) >= good + 1
    assert "traceback" not in door.log.read_text().lower()


def dropped(peer: socket.socket, within_s: float = 60.0) -> bool:
    peer.settimeout(within_s)
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


class TestSlowPeers:
    def test_a_silent_stranger_is_dropped(self, strict_door: Receiver) -> None:
        with socket.create_connection(("127.0.0.1", strict_door.port)) as peer:
            assert dropped(peer)

    def test_an_idle_association_is_dropped(self, strict_door: Receiver) -> None:
        with socket.create_connection(("127.0.0.1", strict_door.port)) as peer:
            peer.sendall(associate())
            assert dropped(peer)

    @pytest.mark.parametrize("associated", [False, True])
    def test_one_byte_a_second_is_dropped(self, strict_door: Receiver, associated: bool) -> None:
        with socket.create_connection(("127.0.0.1", strict_door.port)) as peer:
            message = associate()
            if associated:
                peer.sendall(message)
                message = data(3, store_command()) + data(0, bytes(100))
            stop = threading.Event()

            def trickle() -> None:
                for at in range(len(message)):
                    try:
                        peer.sendall(message[at : at + 1])
                    except OSError:
                        return
                    if stop.wait(0.3):  # a minute in all
                        return

            sender = threading.Thread(target=trickle)
            sender.start()
            assert dropped(peer, 40.0)
            stop.set()
            sender.join()
        assert wait_for(lambda: strict_door.left() == [])

    def test_a_crowd_of_silent_strangers_keeps_nobody_out(self, door: Receiver, tmp_path: Path) -> None:
        path = film(tmp_path / "film.dcm", "1.2.9", 50_000)
        crowd = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(200)]
        assert "(Success)" in door.send(path)
        for peer in crowd:
            peer.close()
