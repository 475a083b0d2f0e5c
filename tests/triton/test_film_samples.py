"""Real films through the real server: one picture, one reading, whatever the syntax and polarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
import pytest
from films import inverted_twin, to_bytes
from wetread_client import Client, Reading

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_embedded import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.data]

LOSSLESS = ("RLE", "JPLL", "JLSL")


@pytest.fixture(scope="module")
def folder(data_folder) -> Path:
    return data_folder / "dicom" / "film"


def read(server: EmbeddedTriton, dicom: Path | bytes) -> Reading:
    with Client(server.http_url) as client:
        return client.read(dicom, any_body_part=True)


def probability(reading: Reading) -> float:
    (finding,) = reading.findings
    return finding.probability


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_give_the_reading_of_the_uncompressed_film(server, folder, syntax):
    uncompressed, compressed = (read(server, folder / f"RG2_{name}.dcm") for name in ("UNC", syntax))
    assert probability(compressed) == pytest.approx(probability(uncompressed), abs=1e-5)
    assert compressed.novelty == pytest.approx(uncompressed.novelty, abs=1e-4)


def test_jpeg_2000_at_reduced_resolution_stays_within_a_hundredth(server, folder):
    uncompressed, reduced = (read(server, folder / f"RG2_{name}.dcm") for name in ("UNC", "J2KR"))
    assert probability(reduced) != probability(uncompressed)  # else nothing was reduced
    assert probability(reduced) == pytest.approx(probability(uncompressed), abs=0.01)


def test_an_inverted_twin_gives_the_same_probability(server, folder):
    film = pydicom.dcmread(folder / "RG2_UNC.dcm")
    assert film.PhotometricInterpretation == "MONOCHROME2"
    original = read(server, to_bytes(film))
    inverted = read(server, inverted_twin(film))
    assert probability(inverted) == pytest.approx(probability(original), abs=1e-4)
    assert inverted.novelty == pytest.approx(original.novelty, abs=1e-3)


def test_a_hip_is_told_to_be_unlike_the_films_of_training(server, folder):
    assert read(server, folder / "RG2_UNC.dcm").novelty > 1
