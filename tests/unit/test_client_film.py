from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from wetread_client import Client, FakeTransport, Rejected
from wetread_client.fake import fake_answer
from wetread_client.film import secondary_capture
from wetread_client.film_files import find_films
from wetread_client.film_pixels import CannotDraw, film_pixels
from wetread_client.overlay import OverlayFolder, draw
from wetread_client.reading import Finding, Notes, Reading

RAMP = np.arange(30 * 41, dtype=np.uint16).reshape(30, 41)


def picture(folder: Path, pixels: np.ndarray, name: str = "film.png", **options) -> Path:
    file = folder / name
    Image.fromarray(pixels).save(file, **options)
    return file


def wrapped(file: Path) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(secondary_capture(file)))


@pytest.mark.parametrize("name", ["film.png", "film.tif"])
@pytest.mark.parametrize("pixels", [RAMP.astype(np.uint8), RAMP * 50], ids=["8 bit", "16 bit"])
def test_a_gray_picture_becomes_a_gray_capture_with_every_value(tmp_path, pixels, name):
    film = wrapped(picture(tmp_path, pixels, name))
    assert (film.pixel_array == pixels).all()
    assert film.BitsStored == pixels.dtype.itemsize * 8
    assert film.PhotometricInterpretation == "MONOCHROME2"
    assert film.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert film.PatientName == ""


def test_a_jpeg_becomes_an_uncompressed_capture(tmp_path):
    file = picture(tmp_path, RAMP.astype(np.uint8), "film.jpeg", quality=90)
    film = wrapped(file)
    assert not film.file_meta.TransferSyntaxUID.is_compressed
    assert (film.pixel_array == np.asarray(Image.open(file))).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_gray_that_was_stored_as_colour_becomes_gray(tmp_path, mode):
    gray = RAMP.astype(np.uint8)
    file = tmp_path / "film.png"
    Image.fromarray(gray).convert(mode).save(file)
    film = wrapped(file)
    assert film.SamplesPerPixel == 1
    assert (film.pixel_array == gray).all()


def test_true_colour_stays_colour_for_the_server_to_refuse(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 2] = (255, 0, 0)
    film = wrapped(picture(tmp_path, pixels))
    assert film.PhotometricInterpretation == "RGB"
    assert (film.pixel_array == pixels).all()


def test_the_same_picture_gives_the_same_bytes_and_another_another_identity(tmp_path):
    first = picture(tmp_path, RAMP.astype(np.uint8), "a.png")
    same = picture(tmp_path, RAMP.astype(np.uint8), "b.png")
    other = picture(tmp_path, RAMP.astype(np.uint8).T.copy(), "c.png")
    assert secondary_capture(first) == secondary_capture(same)
    assert wrapped(first).SOPInstanceUID != wrapped(other).SOPInstanceUID


def test_a_picture_that_is_none_is_rejected(tmp_path):
    file = tmp_path / "film.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n but not really")
    with pytest.raises(Rejected, match="cannot be decoded"):
        secondary_capture(file)


def test_a_picture_that_is_cut_short_is_rejected(tmp_path):
    file = picture(tmp_path, np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8))
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(Rejected, match="cannot be decoded"):
        secondary_capture(file)


def white_png(side):
    """A whole PNG of one bit a pixel; Pillow takes seconds to write a large one."""
    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    told = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)


@pytest.mark.slow
def test_a_decompression_bomb_is_rejected_unopened(tmp_path):
    file = tmp_path / "bomb.png"
    file.write_bytes(white_png(30_000))
    with pytest.raises(Rejected, match=r"30000x30000|cannot be decoded"):
        secondary_capture(file)


def test_several_frames_are_rejected(tmp_path):
    file = tmp_path / "film.tif"
    pages = [Image.fromarray(RAMP.astype(np.uint8)) for _ in range(2)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    with pytest.raises(Rejected, match="several frames"):
        secondary_capture(file)


def test_the_client_wraps_a_picture_file_and_declares_it_a_film(tmp_path):
    transport = FakeTransport([fake_answer()])
    with Client(transport=transport) as client:
        client.read(picture(tmp_path, RAMP.astype(np.uint8)))
    (request,) = transport.requests
    assert request.parameters == {"declared_film": True}
    assert (pydicom.dcmread(io.BytesIO(request.film)).pixel_array == RAMP.astype(np.uint8)).all()


def test_a_folder_gives_its_films_and_counts_the_rest(tmp_path):
    below = tmp_path / "b" / "c"
    below.mkdir(parents=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), below / "no-suffix")
    film = picture(tmp_path, RAMP.astype(np.uint8))
    (tmp_path / "notes.txt").write_text("hello")
    found = find_films([tmp_path])
    assert found.files == (below / "no-suffix", film)
    assert found.skipped == 1


def test_a_file_that_is_named_is_taken_whatever_it_is_and_only_once(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    assert find_films([notes, tmp_path, notes]).files == (notes,)


def test_a_dicomdir_gives_the_files_it_references():
    dicomdir = Path(get_testdata_file("DICOMDIR"))
    found = find_films([dicomdir])
    assert len(found.files) == 31
    assert all(file.is_file() for file in found.files)
    assert all(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in found.files[:3])


def reading_of(probability: float, heatmap: np.ndarray | None) -> Reading:
    finding = Finding("pneumonia", probability, probability >= 0.5)
    return Reading("chest_xray", 3, (finding,), 0.4, heatmap, Notes(), 1.0)


@pytest.mark.slow
def test_a_positive_reading_is_drawn_as_colour_where_the_heatmap_is_strong_and_nowhere_else():
    film = np.full((400, 300), 120, np.uint8)
    heatmap = np.zeros((1, 224, 168), np.uint8)
    heatmap[0, 150:200, 20:80] = 255
    image = np.asarray(draw(film, reading_of(0.9, heatmap))).astype(int)
    colourful = (image.max(-1) - image.min(-1)) > 60
    height, width = 1024, 768
    assert colourful[int(height * 175 / 224), int(width * 50 / 168)]
    assert not colourful[: height // 2].any()
    assert image.shape[0] > height  # a caption lies below, not over the film


def test_a_negative_reading_is_the_film_alone():
    film = np.full((400, 300), 120, np.uint8)
    image = np.asarray(draw(film, reading_of(0.1, np.full((1, 224, 168), 255, np.uint8)))).astype(int)
    assert (image[:1024].max(-1) == image[:1024].min(-1)).all()


@pytest.mark.slow
def test_films_of_one_name_get_pictures_of_their_own(tmp_path):
    source = Path(get_testdata_file("CT_small.dcm"))
    films = [tmp_path / folder / "film.dcm" for folder in "ab"]
    for film in films:
        film.parent.mkdir()
        shutil.copy(source, film)
    overlays = OverlayFolder(tmp_path / "out")
    drawn = [overlays.draw(film, reading_of(0.1, None)) for film in films]
    assert len(set(drawn)) == 2
    for file in drawn:
        with Image.open(file) as image:
            assert image.width <= 1024


def test_monochrome1_is_shown_as_its_twin():
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    plain = film_pixels(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    twin = dataset.pixel_array.max() + dataset.pixel_array.min() - dataset.pixel_array
    dataset.PixelData = twin.astype(np.int16).tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert np.abs(film_pixels(buffer.getvalue()).astype(int) - plain).max() <= 1


def test_what_cannot_be_drawn_says_so():
    with pytest.raises(CannotDraw):
        film_pixels(b"no film")
