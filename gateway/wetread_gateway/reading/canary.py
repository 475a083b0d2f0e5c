"""Images that any pipeline for their kind can read: they tell a server that is broken from an image that breaks it."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, MRImageStorage

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANARY_MODALITIES = ("CT", "MR")
_SIZE = 256
_UID = "2.25.110190128404017474120216838206173154"  # made once; these images are never stored
_SLICES, _SIDE, _STEP_MM = 16, 32, 4.0


@functools.cache
def canary_film() -> bytes:
    """Give a small DX film, a grey slope; it shows nobody."""
    slope = np.add.outer(np.arange(_SIZE), np.arange(_SIZE)).astype(np.uint16) * np.uint16(8)
    film = _image(slope, DigitalXRayImageStorageForPresentation, "DX")
    film.SOPInstanceUID = _UID
    film.BodyPartExamined, film.ViewPosition = "CHEST", "PA"
    return _written(film)


@functools.cache
def canary_series(modality: str) -> tuple[bytes, ...]:
    """Give a small CT or MR series, a ball of water in air or brightest in its middle; it shows nobody."""
    place = np.indices((_SLICES, _SIDE, _SIDE)) - np.array([_SLICES / 2, _SIDE / 2, _SIDE / 2])[:, None, None, None]
    distance = np.sqrt((place**2).sum(axis=0)) * _STEP_MM
    values = np.clip(1000.0 - 15.0 * distance, 0, None).astype(np.uint16)
    made = []
    for number, plane in enumerate(values):
        one = _image(plane, CTImageStorage if modality == "CT" else MRImageStorage, modality)
        one.SOPInstanceUID, one.InstanceNumber = f"{_UID}.{number + 1}", number + 1
        one.FrameOfReferenceUID, one.ImageType = _UID, ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, number * _STEP_MM], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [_STEP_MM, _STEP_MM], _STEP_MM
        if modality == "CT":
            one.RescaleSlope, one.RescaleIntercept = 1, -1000
        made.append(_written(one))
    return tuple(made)


def _image(pixels: NDArray[np.uint16], sop_class: str, modality: str) -> Dataset:
    image = Dataset()
    image.SOPClassUID, image.StudyInstanceUID, image.SeriesInstanceUID = sop_class, _UID, _UID
    image.PatientName, image.PatientID, image.Modality = "CANARY", "CANARY", modality
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _written(image: Dataset) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
