"""A film that any film pipeline can read: it tells a server that is broken from a film that breaks it."""

from __future__ import annotations

import functools
import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

_SIZE = 256
_UID = "2.25.110190128404017474120216838206173154"  # made once; this film is never stored


@functools.cache
def canary_film() -> bytes:
    """Give a small DX film, a grey slope; it shows nobody."""
    slope = np.add.outer(np.arange(_SIZE), np.arange(_SIZE)).astype("<u2") * 8
    film = Dataset()
    film.SOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.StudyInstanceUID = film.SeriesInstanceUID = _UID
    film.PatientName, film.PatientID = "CANARY", "CANARY"
    film.Modality, film.BodyPartExamined, film.ViewPosition = "DX", "CHEST", "PA"
    film.Rows = film.Columns = _SIZE
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = slope.tobytes()
    film["PixelData"].VR = "OW"
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
