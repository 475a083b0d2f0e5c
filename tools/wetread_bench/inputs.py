"""The films of the benchmark: sixteen 2048 x 2048 12-bit films in five lossless transfer syntaxes, made once."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pydicom

from wetread_bench.encode import SYNTAXES, encode, verify

COUNT, SIDE, BITS, NOISE_SD, SEED = 16, 2048, 12, 4.0, 20240511
VERSION = 2  # of what is written below: another number makes the cache anew
RG2 = Path("dicom") / "film" / "RG2_UNC.dcm"
TOP = 2**BITS - 1

Pixels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class FilmInputs:
    """The files by syntax, and what a result says of them."""

    folder: Path
    source: str
    count: int
    mean_bytes: dict[str, int]
    sha256: str
    """Over all files, in order."""

    def files(self, syntax: str) -> list[str]:
        """The files of one syntax, in order."""
        return [str(path) for path in sorted(self.folder.glob(f"{syntax}-*.dcm"))]


def data_folder(checkout: Path) -> Path | None:
    """The folder of real images: `WETREAD_DATA`, else `../shared/data`; None where there is none."""
    told = os.environ.get("WETREAD_DATA")
    folder = Path(told) if told else checkout.parent / "shared" / "data"
    return folder if (folder / RG2).is_file() else None


def prepare(cache: Path, checkout: Path, count: int = COUNT) -> FilmInputs:
    """Give the benchmark's films, or the first `count` of them, made in a folder of `cache` if need be."""
    data = data_folder(checkout)
    folder = cache / f"{'real' if data else 'synthetic'}-v{VERSION}-{count}"
    index = folder / "index.json"
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        source = "crops and flips of NEMA WG-04 RG2 (CR hip)" if data else "SYNTHETIC films: WETREAD_DATA is not set"
        for number, pixels in enumerate(_real(data / RG2, count) if data else _synthetic(checkout, count)):
            for syntax in SYNTAXES:
                encoded = encode(pixels, number, syntax, BITS)
                verify(encoded, pixels, syntax)
                (folder / f"{syntax}-{number:02}.dcm").write_bytes(encoded)
        index.write_text(json.dumps(asdict(_describe(folder, source, count)), default=str))
    told = json.loads(index.read_text())
    return FilmInputs(folder, told["source"], told["count"], told["mean_bytes"], told["sha256"])


def _describe(folder: Path, source: str, count: int) -> FilmInputs:
    digest = hashlib.sha256()
    mean_bytes = {}
    for syntax in SYNTAXES:
        films = [path.read_bytes() for path in sorted(folder.glob(f"{syntax}-*.dcm"))]
        for film in films:
            digest.update(film)
        mean_bytes[syntax] = round(sum(map(len, films)) / len(films))
    return FilmInputs(folder, source, count, mean_bytes, digest.hexdigest())


def _real(path: Path, count: int) -> Iterator[Pixels]:
    dataset = pydicom.dcmread(path)
    film = dataset.pixel_array.astype(np.float32) * (TOP / (2.0**dataset.BitsStored - 1))
    rows, columns = film.shape
    for number in range(count):
        rng = np.random.default_rng((SEED, number))
        height, width = (int(side * rng.uniform(0.7, 1.0)) for side in (rows, columns))
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
        crop = film[top : top + height, left : left + width]
        crop = np.ascontiguousarray(crop[:: 1 - 2 * (number & 1), :: 1 - (number & 2)])
        yield _noisy(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), rng)


def _synthetic(checkout: Path, count: int) -> Iterator[Pixels]:
    from wetread_models.synthetic import FilmModel  # noqa: PLC0415 -- only where real films are absent

    model = FilmModel.load(checkout / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
    for number in range(count):
        film = model.film(number, "pneumonia" if number % 2 else "normal", rows=SIDE, columns=SIDE, bits=BITS)
        yield _noisy(film.astype(np.float32), np.random.default_rng((SEED, number)))


def _noisy(film: npt.NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    noise = rng.normal(0, NOISE_SD, film.shape)
    return np.clip(np.rint(film + noise), 0, TOP).astype(np.uint16)
