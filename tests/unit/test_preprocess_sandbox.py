from __future__ import annotations

import dataclasses
import os
import select
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from film_reference import RECIPE_FOLDER
from films import DEFLATED_FRAME, Stored, changed, compressed, film, frame_of, radiograph, to_bytes
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from tiers import only_full, tried
from waiting import WAIT_S
from wetread_preprocess import DecodeLimits, FilmPreprocessor, ImageError, InvalidDicom, Recipe, UnsupportedImage
from wetread_preprocess.sandbox import _Child

GOOD = film(radiograph(100, 90, 8))
GOOD_J2K = compressed(GOOD, JPEG2000Lossless)
MIB = 2**20


def limited(recipe: Recipe, **limits: float) -> FilmPreprocessor:
    return FilmPreprocessor(dataclasses.replace(recipe, limits=DecodeLimits(**{"timeout_s": WAIT_S, **limits})))


def child_of(preprocessor: FilmPreprocessor) -> int:
    return preprocessor._sandbox._child._process.pid


def wait_for_end(pid: int) -> bool:
    """Whether a process, whoever's child, ended in time; at once when it does."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], WAIT_S)[0])
    finally:
        os.close(fd)


def assert_reads(preprocessor: FilmPreprocessor) -> None:
    __tracebackhide__ = True
    np.testing.assert_array_equal(preprocessor.read(GOOD_J2K).image, preprocessor.read(to_bytes(GOOD)).image)


@pytest.mark.slow
def test_compressed_films_share_one_child_and_native_ones_need_none(recipe):
    with limited(recipe) as made:
        made.read(to_bytes(GOOD))
        assert made._sandbox._child is None
        assert_reads(made)
        first = child_of(made)
        assert_reads(made)
        assert child_of(made) == first
    assert wait_for_end(first)


@pytest.fixture
def deaths(monkeypatch):
    """Signals that the next decoding processes die of, each while it holds a frame."""
    waiting: list[signal.Signals] = []
    make_room, receive = _Child._make_room, _Child._receive

    def hold(child, size):
        if waiting:
            os.kill(child._process.pid, signal.SIGSTOP)
        make_room(child, size)

    def die(child):
        if waiting and child._connection.gettimeout() == child._timeout_s:  # not yet while it starts
            os.kill(child._process.pid, waiting.pop())
            os.kill(child._process.pid, signal.SIGCONT)
        return receive(child)

    monkeypatch.setattr(_Child, "_make_room", hold)
    monkeypatch.setattr(_Child, "_receive", die)
    return waiting


@pytest.mark.slow
@pytest.mark.parametrize(
    "death", [signal.SIGKILL, signal.SIGSEGV, *only_full(signal.SIGABRT)], ids=lambda death: death.name
)
def test_a_codec_that_crashes_twice_refuses_its_film_and_the_next_is_read(recipe, deaths, death):
    with limited(recipe) as made:
        assert_reads(made)
        pid = child_of(made)
        deaths += [death, death]
        with pytest.raises(InvalidDicom, match="codec crashed"):
            made.read(GOOD_J2K)
        assert not deaths
        assert wait_for_end(pid)
        assert_reads(made)


@pytest.mark.slow
def test_a_film_whose_decoding_process_is_killed_beside_it_is_read_all_the_same(recipe, deaths):
    with limited(recipe) as made:
        deaths.append(signal.SIGKILL)
        assert_reads(made)
        assert not deaths


@pytest.mark.slow
def test_an_rle_frame_that_makes_its_decoder_panic_is_refused_and_costs_no_process(recipe):
    dataset = film(Stored(radiograph(100, 90)))
    plane = b"".join(b"\x81\x05" for _ in range(9000 // 128)) + b"\xd9\x05"  # 70 runs of 128 and one of 40
    overrun = struct.pack("<16I", 2, 64, 64 + len(plane), *[0] * 13) + plane + plane[:-2] + b"\x81\x05"
    with limited(recipe) as made:
        assert_reads(made)
        pid = child_of(made)
        with pytest.raises(InvalidDicom, match="RLE"):
            made.read(compressed(dataset, RLELossless, frame=overrun))
        assert child_of(made) == pid


@pytest.mark.slow
def test_a_codec_that_hangs_is_stopped_by_name_and_the_next_film_is_read(recipe):
    with limited(recipe, timeout_s=21.0) as made:
        assert_reads(made)
        pid = child_of(made)
        os.kill(pid, signal.SIGSTOP)
        child = made._sandbox._child
        assert child._connection.gettimeout() == 21.0
        child._timeout_s = 0.2  # of those 21 s, as though they had passed
        with pytest.raises(UnsupportedImage, match=r"longer than 21 s"):
            made.read(GOOD_J2K)
        assert wait_for_end(pid)
        assert_reads(made)


@pytest.mark.slow
def test_a_child_that_died_between_two_films_is_replaced_unnoticed(recipe):
    with limited(recipe) as made:
        assert_reads(made)
        pid = child_of(made)
        os.kill(pid, signal.SIGKILL)
        assert_reads(made)
        assert child_of(made) != pid


def j2k_bomb(side: int) -> bytes:
    """A codestream of a small picture that claims to be large."""
    frame = bytearray(frame_of(film(Stored(radiograph(64, 64))), JPEG2000Lossless))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">II", frame, at, side, side)
    struct.pack_into(">II", frame, at + 16, side, side)
    return bytes(frame)


def jpeg_ls_bomb(side: int) -> bytes:
    frame = bytearray(frame_of(film(Stored(radiograph(64, 64))), JPEGLSLossless))
    struct.pack_into(">HH", frame, frame.index(b"\xff\xf7") + 5, side, side)
    return bytes(frame)


def deflate_bomb(side: int) -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b"".join(packer.compress(bytes(side * 2)) for _ in range(side)) + packer.flush()


def rle_bomb(side: int) -> bytes:
    run = b"\x81\0" * (side * side // 128)
    return struct.pack("<16I", 2, 64, 64 + len(run), *[0] * 13) + run + run


BOMBS = {
    "JPEG 2000": (JPEG2000Lossless, j2k_bomb),
    "JPEG-LS": (JPEGLSLossless, jpeg_ls_bomb),
    "deflate": (DEFLATED_FRAME, deflate_bomb),
    "RLE": (RLELossless, rle_bomb),
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_its_memory_limit_and_the_next_film_is_read(recipe, bomb):
    syntax, build = BOMBS[bomb]
    side, limit = 8000, 64 * MIB  # 128 MB of pixels
    dicom = compressed(changed(film(Stored(radiograph(64, 64))), Rows=side, Columns=side), syntax, frame=build(side))
    with limited(recipe, memory_bytes=limit) as made:
        assert_reads(made)
        before = peak_bytes(child_of(made))
        with pytest.raises(ImageError):
            made.read(dicom)
        if made._sandbox._child is not None:  # it survived: then within its limit
            assert peak_bytes(child_of(made)) - before <= limit
        assert_reads(made)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.slow
def test_a_film_that_fits_its_memory_limit_is_read_where_a_larger_one_is_refused(recipe):
    with limited(recipe, memory_bytes=64 * MIB) as made:
        for side in (1000, 8000):
            dataset = changed(film(Stored(radiograph(64, 64))), Rows=side, Columns=side, WindowCenter=5, WindowWidth=9)
            dicom = compressed(dataset, DEFLATED_FRAME, frame=deflate_bomb(side))
            if side == 1000:
                assert made.read(dicom).image.shape == (1, 224, 224)
            else:
                with pytest.raises(UnsupportedImage, match="memory"):
                    made.read(dicom)


@pytest.mark.slow
def test_the_child_ends_with_its_parent_however_that_dies():
    script = (
        "import os, signal, sys; from pathlib import Path; from wetread_preprocess import FilmPreprocessor\n"
        "made = FilmPreprocessor.load(Path(sys.argv[1])); made.read(sys.stdin.buffer.read())\n"
        "print(made._sandbox._child._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(RECIPE_FOLDER)], input=GOOD_J2K, capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert wait_for_end(int(ended.stdout))


@pytest.mark.slow
def test_frames_of_every_size_pass_through_the_shared_memory(preprocessor):
    for side in (60, 1500, 70, 900):
        dataset = film(np.random.default_rng(side).integers(0, 256, (side, side)).astype(np.uint8))
        packed = preprocessor.read(compressed(dataset, RLELossless, frame=raw_rle(dataset))).image
        np.testing.assert_array_equal(packed, preprocessor.read(to_bytes(dataset)).image)


def raw_rle(dataset) -> bytes:
    """An RLE frame of literals alone, larger than its pixels."""
    pixels = dataset.PixelData[: dataset.Rows * dataset.Columns]
    runs = b"".join(bytes([len(part) - 1]) + part for part in (pixels[i : i + 128] for i in range(0, len(pixels), 128)))
    return struct.pack("<16I", 1, 64, *[0] * 14) + runs + b"\0" * (len(runs) % 2)


@pytest.mark.slow
def test_the_child_leaves_no_file_descriptor_behind():
    """In a process of its own: others that tests have left running open files, too."""
    script = (
        "import os, sys; from pathlib import Path; from wetread_preprocess.film import FilmPreprocessor\n"
        "film = sys.stdin.buffer.read()\n"
        "with FilmPreprocessor.load(Path(sys.argv[1])) as made:\n"
        f"    for _ in range({tried(2, 4)}):\n"
        "        made.read(film); print(len(os.listdir('/proc/self/fd'))); made.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(RECIPE_FOLDER)], input=GOOD_J2K, capture_output=True, check=True
    )
    assert len(set(ended.stdout.split())) == 1, ended.stdout
