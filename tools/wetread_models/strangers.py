"""Pictures that are no chest films: NOVELTY must put them above 1."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from wetread_models.data import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

# Single-frame gray files that come with pydicom's own package.
_PYDICOM_FILES = ("CT_small.dcm", "MR_small.dcm")
_SERIES_SAMPLES = 6


def drawn(seed: int = 0) -> Iterator[tuple[str, Picture]]:
    """Noise, plain levels, ramps, stripes and a ball: no data needed."""
    rng = np.random.default_rng(seed)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    ramp = np.broadcast_to(np.linspace(0, 255, IMAGE_SIZE), size)
    y, x = np.mgrid[-1 : 1 : IMAGE_SIZE * 1j, -1 : 1 : IMAGE_SIZE * 1j]
    yield "uniform noise", rng.integers(0, 256, size).astype(np.uint8)
    yield "gaussian noise, SD 30", np.clip(rng.normal(127, 30, size), 0, 255).astype(np.uint8)
    smooth = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), 8)
    yield "cloudy noise", _stretch(smooth)
    for level in (0, 127, 255):
        yield f"plain {level}", np.full(size, level, dtype=np.uint8)
    yield "ramp across", ramp.astype(np.uint8)
    yield "ramp down", np.ascontiguousarray(ramp.T).astype(np.uint8)
    yield "stripes", (127 + 127 * np.sin(x * 40)).astype(np.uint8)
    yield "ball", _stretch(np.sqrt(np.clip(0.6 - x**2 - y**2, 0, None)))


def pydicom_files() -> Iterator[tuple[str, Picture]]:
    """The small CT and MR of pydicom's own package."""
    for name in _PYDICOM_FILES:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        yield f"pydicom {name}", read_gray(path)


def real(dicom: Path) -> Iterator[tuple[str, Picture]]:
    """The hip film and the CT and MR slices of the data folder's `dicom`, as far as they are there."""
    for part, name in (("RG2", "hip film"), ("CT1", "CT slice"), ("MR1", "MR slice")):
        for path in sorted((dicom / "film").rglob(f"*{part}*UNC*"))[:1]:
            yield f"{name} {path.name}", read_gray(path)
    for folder, name in (("ct_tilted", "head CT"), ("ct_chest", "chest CT"), ("mr_t1", "head MR")):
        paths = sorted(p for p in (dicom / folder).rglob("*") if p.is_file() and pydicom.misc.is_dicom(p))
        for index in np.linspace(0.15, 0.85, _SERIES_SAMPLES) if paths else ():
            path = paths[int(index * len(paths))]
            yield f"{name} {path.name}", read_gray(path)


def read_gray(path: Path | str) -> Picture:
    """A DICOM file as a viewer first shows it, stretched to 224 x 224 (uint8)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the files are old, what they say about themselves does not matter here
        dataset = pydicom.dcmread(path)
        values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = -values
    return _stretch(np.asarray(cv2.resize(values, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)))


def _stretch(values: npt.NDArray[np.float64]) -> Picture:
    low, high = float(values.min()), float(values.max())
    return np.asarray(np.rint((values - low) / max(high - low, 1e-9) * 255), dtype=np.uint8)
