"""What is sent: distinct films of 512 KB and small series, made beforehand, their UIDs put in place when they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from wetread_bench.fresh_films import FilmTemplate, Identity

if TYPE_CHECKING:
    import numpy.typing as npt

FILM_PIXELS = 512  # a side: 512 KB of 16 bits
SLICE_PIXELS = 64
_TEMPLATES = 8


class Films:
    """Films and slices, every one its own; `seed` tells runs apart."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng(seed)
        self._films = [FilmTemplate(_film(rng)) for _ in range(_TEMPLATES)]
        self._slices = [FilmTemplate(_slice(rng)) for _ in range(_TEMPLATES)]

    def film(self, number: int) -> tuple[Identity, bytes]:
        """Give the film of a number."""
        identity = Identity(self._seed, number)
        return identity, self._films[number % _TEMPLATES].film(identity)

    def series(self, number: int, count: int) -> tuple[str, list[tuple[Identity, bytes]]]:
        """Give the study's UID and the slices of a small series, one frame of reference, a millimetre apart."""
        study = Identity(self._seed, number)
        found: list[tuple[Identity, bytes]] = []
        for place in range(count):
            own = _Slice(self._seed, number, place)
            found.append((own, self._slices[place % _TEMPLATES].film(own)))
        return study.study_uid, found


@dataclass(frozen=True, slots=True)
class _Slice(Identity):
    """A slice: its study, series and patient are those of its number, its instance its own."""

    place: int = 0

    def uid(self, kind: str) -> str:
        """Give the UID of `kind`."""
        return Identity(self.seed, self.number).uid(f"instance/{self.place}" if kind == "instance" else kind)


def _film(rng: np.random.Generator) -> FileDataset:
    """Two lungs, roughly, under noise: what is in it does not matter, that it is a film does."""
    y, x = np.mgrid[-1 : 1 : FILM_PIXELS * 1j, -1 : 1 : FILM_PIXELS * 1j]
    body = 2600.0 - 900 * (np.hypot(x, y) > 0.95)
    for side in (-0.42, 0.42):
        body -= 1400 * np.exp(-(((x - side + rng.normal(0, 0.03)) / 0.28) ** 4 + (y / 0.7) ** 4))
    dataset = _dataset(str(DigitalXRayImageStorageForPresentation), body + rng.normal(0, 30, body.shape))
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [0.7, 0.7]
    dataset.PatientAge = "050Y"
    return dataset


def _slice(rng: np.random.Generator) -> FileDataset:
    dataset = _dataset(str(CTImageStorage), rng.normal(1000, 60, (SLICE_PIXELS, SLICE_PIXELS)))
    dataset.Modality, dataset.BodyPartExamined = "CT", "CHEST"
    dataset.PixelSpacing, dataset.SliceThickness = [5.0, 5.0], "1"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, 0]
    return dataset


def _dataset(sop_class: str, values: npt.NDArray[np.float64]) -> FileDataset:
    pixels = np.clip(values, 0, 4095).astype("<u2")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID("2.25.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = UID(sop_class)
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20250101", "120000", "LOAD"
    dataset.Manufacturer, dataset.StudyID, dataset.InstanceNumber = "Wetread", "1", 1
    dataset.SeriesNumber = 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset
