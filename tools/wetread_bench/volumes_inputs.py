"""The series of the bench of volumes: a CT of 100 x 512 x 512 and an MR of 384 x 384 x 274, real or made once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from wetread_bench.inputs import data_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Shape = tuple[int, int, int]
VERSION = 1  # of what is made below: another number makes it anew
SHAPES: Mapping[str, Shape] = {"ct": (100, 512, 512), "mr": (384, 384, 274)}
_REAL = {"ct": "ct_chest", "mr": "mr_t1"}
_SPACING_MM = {"ct": (2.5, 0.9, 0.9), "mr": (0.667, 0.667, 0.7)}  # as in the real ones
_SEED = 20260301
_AIR_HU, _PADDING_HU = -1000.0, -3024
_NOISE = {"ct": 20.0, "mr": 12.0}


@dataclass(frozen=True)
class SeriesInput:
    """A series on disk, and what a result says of it."""

    name: str
    folder: str
    source: str
    files: int
    bytes: int
    sha256: str
    """Over all files, by name."""

    @property
    def modality(self) -> str:
        """As in DICOM."""
        return self.name.upper()


def series_files(folder: Path) -> list[Path]:
    """The files of a series by name, which need not be their order in the patient."""
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def prepare_series(cache: Path, checkout: Path, name: str, synthetic: Shape | None = None) -> SeriesInput:
    """Give the series `ct` or `mr`. `synthetic`: made in `cache`, of this shape; else only without WETREAD_DATA."""
    data = None if synthetic else data_folder(checkout)
    real = data / "dicom" / _REAL[name] if data else None
    if real and real.is_dir():
        return _described(name, real, f"{_REAL[name]} of the shared data")
    shape = synthetic or SHAPES[name]
    folder = cache / f"{name}-v{VERSION}-{'x'.join(map(str, shape))}"
    if not (folder.is_dir() and len(series_files(folder)) == shape[0]):
        folder.mkdir(parents=True, exist_ok=True)
        write_series(folder, name, shape)
    return _described(name, folder, "SYNTHETIC series: WETREAD_DATA is not set")


def _described(name: str, folder: Path, source: str) -> SeriesInput:
    digest = hashlib.sha256()
    files = series_files(folder)
    size = 0
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        size += len(content)
    return SeriesInput(name, str(folder), source, len(files), size, digest.hexdigest())


def write_series(folder: Path, name: str, shape: Shape) -> None:
    """Write a series of a body in its field of view (CT) or of a head under an uneven coil (MR), with noise."""
    rng = np.random.default_rng((_SEED, len(name), *shape))
    for number in range(shape[0]):
        plane = _chest(number, shape, rng) if name == "ct" else _head(number, shape, rng)
        _dataset(name, number, plane).save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


def _places(number: int, shape: Shape) -> tuple[float, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where a slice's voxels lie, -1..1 along each axis."""
    ends = [np.linspace(-1, 1, side, dtype=np.float32) for side in shape]
    return float(ends[0][number]), ends[1][:, None], ends[2][None, :]


def _chest(number: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    z, y, x = _places(number, shape)
    plane = np.full(shape[1:], _AIR_HU, np.float32)
    plane[(x / 0.85) ** 2 + (y / 0.62) ** 2 < 1] = 40.0
    for side in (-1, 1):
        lung = ((x - 0.38 * side) / 0.32) ** 2 + (y / 0.45) ** 2 + (z / 1.2) ** 2 < 1
        vessels = np.maximum(np.sin(37 * x + 9 * z) * np.sin(41 * y - 7 * z), 0) ** 6
        plane[lung] = (-850 + 700 * vessels)[lung]
    rib = np.abs((x / 0.8) ** 2 + (y / 0.57) ** 2 - 1) < 0.03
    plane[rib & (np.sin(14 * z + 3 * np.abs(x)) > 0.2)] = 500.0
    plane[x**2 + ((y - 0.45) / 0.8) ** 2 < 0.01] = 350.0
    plane += rng.normal(0, _NOISE["ct"], plane.shape).astype(np.float32)
    plane = np.clip(np.rint(plane), -1024, 3071)
    plane[x**2 + y**2 > 1] = _PADDING_HU
    return plane.astype(np.int16)


def _head(number: int, shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    z, y, x = _places(number, shape)
    radius = (x / 0.75) ** 2 + (y / 0.85) ** 2 + (z / 0.85) ** 2
    folds = 0.06 * np.sin(19 * x) * np.sin(17 * y + 11 * z)
    plane = np.zeros(shape[1:], np.float32)
    for edge, value in ((1.0, 350.0), (0.86, 60.0), (0.78 + folds, 420.0), (0.62 + folds, 620.0), (0.04, 150.0)):
        plane[radius < edge] = value
    plane *= 1 + 0.3 * np.asarray(x) * np.cos(y) + 0.15 * z
    noise = rng.normal(0, _NOISE["mr"], (2, *plane.shape)).astype(np.float32)
    magnitude: npt.NDArray[np.int16] = np.rint(np.hypot(plane + noise[0], noise[1])).astype(np.int16)  # Rician
    return magnitude


def _dataset(name: str, number: int, plane: npt.NDArray[np.int16]) -> Dataset:
    between, *in_plane = _SPACING_MM[name]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if name == "ct" else MRImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[name, str(number)])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, pydicom.uid.generate_uid(entropy_srcs=[name, keyword]))
    dataset.Modality, dataset.PatientID, dataset.InstanceNumber = name.upper(), "SYNTHETIC", number + 1
    dataset.PatientName = "SYNTHETIC"
    dataset.BodyPartExamined = "CHEST" if name == "ct" else "BRAIN"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-200.0, -190.0, round(-120 + number * between, 3)]
    dataset.PixelSpacing, dataset.SliceThickness = in_plane, between
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    if name == "ct":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PixelPaddingValue = 1, 0, _PADDING_HU
    dataset.PixelData = plane.astype("<i2").tobytes()
    return dataset
