"""Builders of CT and MR series for the tests: one Part-10 file a slice, or one enhanced multi-frame file."""

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from films import changed, item
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

_ROOT = "1.2.826.0.1.3680043.8.498."
STUDY_UID = _ROOT + "11.1"
FRAME_OF_REFERENCE_UID = _ROOT + "11.2"
_NOTHING: Mapping[str, object] = MappingProxyType({})
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
_ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}

Point = tuple[float, float, float]


def series_files(values: npt.NDArray[np.generic], **options: object) -> list[bytes]:
    """`series_datasets`, written as files."""
    return [file_bytes(one) for one in series_datasets(values, **options)]  # type: ignore[arg-type]


def series_datasets(
    values: npt.NDArray[np.generic],
    *,
    modality: str = "CT",
    body_part: str = "CHEST",
    positions_mm: npt.NDArray[np.float64] | Sequence[Point] | None = None,
    first_mm: Point = (0.0, 0.0, 0.0),
    row_direction: Point = (1.0, 0.0, 0.0),
    column_direction: Point = (0.0, 1.0, 0.0),
    pixel_spacing_mm: tuple[float, float] = (1.0, 1.0),
    step_mm: float = 1.0,
    slope: float = 1.0,
    intercept: float = 0.0,
    series_uid: str | None = None,
    attributes: Mapping[str, object] = _NOTHING,
) -> list[FileDataset]:
    """One dataset a slice of `values` (int16 or uint16 [slices, rows, columns]), in order along the normal.

    `positions_mm` default to `first_mm` + k * `step_mm` * (row direction x column direction). `attributes` overwrite
    what is set here; None deletes. Each call makes a series of its own unless `series_uid` says otherwise.
    """
    if positions_mm is None:
        normal = np.cross(row_direction, column_direction)
        positions_mm = np.array(first_mm) + np.arange(len(values))[:, None] * step_mm * normal
    series_uid = series_uid or generate_uid(_ROOT)
    made = []
    for number, (pixels, position) in enumerate(zip(values, positions_mm, strict=True)):
        dataset = _dataset(modality, body_part, series_uid, _CLASSES[modality])
        dataset.InstanceNumber = number + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
        dataset.ImagePositionPatient = _decimals(position)
        dataset.ImageOrientationPatient = _decimals([*row_direction, *column_direction])
        dataset.PixelSpacing = _decimals(pixel_spacing_mm)
        dataset.SliceThickness = f"{step_mm:g}"
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimals([slope, intercept])
        _set_pixels(dataset, pixels[None])
        made.append(changed(dataset, **attributes))
    return made


def multiframe(
    values: npt.NDArray[np.generic],
    positions_mm: npt.NDArray[np.float64],
    *,
    modality: str = "MR",
    body_part: str = "BRAIN",
    row_direction: Point = (1.0, 0.0, 0.0),
    column_direction: Point = (0.0, 1.0, 0.0),
    pixel_spacing_mm: tuple[float, float] = (1.0, 1.0),
    slopes: Sequence[float] | None = None,
    intercept: float = 0.0,
    stacks: Sequence[str] | None = None,
    temporal: Sequence[int] | None = None,
    series_uid: str | None = None,
    attributes: Mapping[str, object] = _NOTHING,
) -> FileDataset:
    """One enhanced multi-frame image of `values` [frames, rows, columns]; `slopes`, `stacks` (Stack ID), `temporal`
    (Temporal Position Index) one a frame. Orientation and pixel spacing are shared, the rest stands in each frame."""
    dataset = _dataset(modality, body_part, series_uid or generate_uid(_ROOT), _ENHANCED[modality])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(values)
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=_decimals([*row_direction, *column_direction]))],
            PixelMeasuresSequence=[item(PixelSpacing=_decimals(pixel_spacing_mm), SliceThickness="1")],
        )
    ]
    frames = []
    for number, position in enumerate(positions_mm):
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=_decimals(position))],
            PixelValueTransformationSequence=[
                item(
                    RescaleSlope=_decimal(slopes[number] if slopes else 1.0),
                    RescaleIntercept=_decimal(intercept),
                    RescaleType="US",
                )
            ],
        )
        content = Dataset()
        content.StackID = stacks[number] if stacks else "1"
        content.InStackPositionNumber = number + 1
        if temporal:
            content.TemporalPositionIndex = temporal[number]
        frame.FrameContentSequence = [content]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    _set_pixels(dataset, values)
    return changed(dataset, **attributes)


def file_bytes(dataset: FileDataset) -> bytes:
    """A Part-10 file, explicit VR little endian unless its meta group says otherwise."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _dataset(modality: str, body_part: str, series_uid: str, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(_ROOT)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20250102", "101112", "A11"
    dataset.SeriesDate, dataset.SeriesTime = dataset.StudyDate, dataset.StudyTime
    dataset.ContentDate, dataset.ContentTime = dataset.StudyDate, dataset.StudyTime
    dataset.ReferringPhysicianName = dataset.Manufacturer = ""
    dataset.Modality, dataset.BodyPartExamined = modality, body_part
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "TEST^SERIES", "S", "", "O"
    dataset.PatientPosition, dataset.PositionReferenceIndicator = "HFS", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, series_uid
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = "11", 1, 1
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    if modality == "CT":
        dataset.KVP, dataset.RescaleType = "120", "HU"
    else:
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "NONE", ""
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime = "3D", "3", "2000"
        dataset.EchoTrainLength = 1
    return dataset


def _set_pixels(dataset: FileDataset, values: npt.NDArray[np.generic]) -> None:
    """`values` [frames, rows, columns] of 8 or 16 bits."""
    bits = values.dtype.itemsize * 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = values.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"


def _decimals(values: npt.ArrayLike) -> list[str]:
    return [_decimal(value) for value in np.asarray(values, np.float64).tolist()]


def _decimal(value: float) -> str:
    """As DICOM's decimal string of at most 16 characters."""
    for digits in range(16, 3, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)
