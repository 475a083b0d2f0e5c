"""Synthetic chest films from a small statistical model, for demonstrations and tests on machines without real films."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Label = Literal["normal", "pneumonia"]
    Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

LABELS: tuple[Label, ...] = ("normal", "pneumonia")
DRAWN_SIZE = 224
"""Films are drawn at this size, the resolution of the films behind the model, and enlarged from there."""
LARGEST_BITS = 16
_FILM_HEIGHT_MM = 300.0
_NOISE = 0.4
"""Standard deviation of the noise of single pixels at full size, in gray levels of 255."""


@dataclass(frozen=True)
class ClassModel:
    """The films of one class: mean and principal components, and what those leave over as coloured noise."""

    mean: npt.NDArray[np.float32]
    """[s,s], gray levels 0-255."""
    components: npt.NDArray[np.float32]
    """[k,s,s], each scaled to one standard deviation."""
    deviation: npt.NDArray[np.float32]
    """[t,t], standard deviation of the rest by place, gray levels."""
    spectrum: npt.NDArray[np.float32]
    """[r], amplitude of the rest by frequency, from zero to the corner of the spectrum."""
    spread: float
    """By how much the coefficients vary, 1 as in the films; chosen so that a drawn film is read as its class."""


@dataclass(frozen=True)
class FilmModel:
    """Draws films; the same seed, label and size give the same film."""

    classes: dict[str, ClassModel]

    @classmethod
    def load(cls, path: Path) -> FilmModel:
        """Read synthetic_films.npz."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls({label: _unpack(arrays, label) for label in LABELS})

    def save(self, path: Path) -> None:
        """Write synthetic_films.npz: components as int8 with a scale each."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for label, model in self.classes.items():
            scale = np.abs(model.components).max(axis=(1, 2)) / 127
            arrays[f"{label}_components"] = np.rint(model.components / scale[:, None, None]).astype(np.int8)
            arrays[f"{label}_scale"] = scale.astype(np.float32)
            arrays[f"{label}_mean"] = model.mean.astype(np.float16)
            arrays[f"{label}_deviation"] = model.deviation.astype(np.float16)
            arrays[f"{label}_spectrum"] = model.spectrum.astype(np.float32)
            arrays[f"{label}_spread"] = np.array(model.spread, dtype=np.float32)
        np.savez_compressed(path, **arrays)

    def picture(self, seed: int, label: Label) -> npt.NDArray[np.float32]:
        """A film at 224 x 224 as float32 gray levels in 0-255, white = dense."""
        model = self.classes[label]
        rng = np.random.default_rng((LABELS.index(label), seed))
        # Far tails of a Gaussian are no films.
        weights = np.clip(rng.standard_normal(len(model.components)), -2, 2) * model.spread
        smooth = model.mean + np.tensordot(weights.astype(np.float32), model.components, axes=1)
        picture = _enlarge(smooth, DRAWN_SIZE, DRAWN_SIZE) + _coloured_noise(model, rng)
        return np.clip(picture, 0, 255).astype(np.float32)

    def film(self, seed: int, label: Label, rows: int = 1024, columns: int = 1024, bits: int = 12) -> Pixels:
        """A film [rows,columns] over the range of `bits` (8-16), white = dense; uint8 for 8 bits, else uint16."""
        if not 8 <= bits <= LARGEST_BITS:
            raise ValueError(f"bits must be 8 to {LARGEST_BITS}, not {bits}")
        large = _enlarge(self.picture(seed, label), rows, columns)
        noise = np.random.default_rng((2 + LABELS.index(label), seed)).standard_normal(large.shape, dtype=np.float32)
        top = 2**bits - 1
        values = np.clip(np.rint((large + _NOISE * noise) * (top / 255)), 0, top)
        pixels: Pixels = values.astype(np.uint8) if bits == 8 else values.astype(np.uint16)
        return pixels

    def dicom(self, seed: int, label: Label, rows: int = 1024, columns: int = 1024, bits: int = 12) -> bytes:
        """The film as a DX file (Digital X-Ray Image Storage - For Presentation), labelled synthetic."""
        pixels = self.film(seed, label, rows, columns, bits)
        dataset = _dx_dataset(seed, label)
        _describe_pixels(dataset, pixels, bits)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


def _unpack(arrays: np.lib.npyio.NpzFile, label: str) -> ClassModel:
    components = arrays[f"{label}_components"].astype(np.float32) * arrays[f"{label}_scale"][:, None, None]
    return ClassModel(
        arrays[f"{label}_mean"].astype(np.float32),
        components,
        arrays[f"{label}_deviation"].astype(np.float32),
        arrays[f"{label}_spectrum"],
        float(arrays[f"{label}_spread"]),
    )


def radial_bins(size: int, bins: int) -> npt.NDArray[np.int64]:
    """For each frequency of np.fft.fft2 of a size x size picture, the index of its ring, 0 to bins - 1."""
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    return np.asarray(np.minimum((radius / np.hypot(0.5, 0.5) * bins).astype(np.int64), bins - 1))


def _coloured_noise(model: ClassModel, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    white = np.fft.fft2(rng.standard_normal((DRAWN_SIZE, DRAWN_SIZE)))
    noise = np.fft.ifft2(white * model.spectrum[radial_bins(DRAWN_SIZE, len(model.spectrum))]).real
    scaled = noise / noise.std() * _enlarge(model.deviation, DRAWN_SIZE, DRAWN_SIZE)
    return np.asarray(scaled, dtype=np.float32)


def _enlarge(picture: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _dx_dataset(seed: int, label: str) -> FileDataset:
    """Everything of a DX object but its pixels (PS3.3 A.26); type 2 attributes that mean nothing here stay empty."""
    entropy = ["wetread synthetic film", label, str(seed)]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[*entropy, "instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*entropy, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, keyword, "")
    dataset.PatientName, dataset.PatientID = "SYNTHETIC^FILM", f"SYN-{seed}"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "", "", "003Y"
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.Manufacturer = "Wetread"
    dataset.ManufacturerModelName = "statistical film model"
    dataset.SeriesDescription = f"Synthetic film, {label}"
    dataset.ImageComments = f"SYNTHETIC: drawn from a statistical model ({label}, seed {seed}); shows no patient"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality, dataset.BurnedInAnnotation, dataset.LossyImageCompression = "U", "NO", "00"
    dataset.DetectorType = ""
    dataset.AcquisitionContextSequence = DicomSequence([])
    dataset.AnatomicRegionSequence = DicomSequence([_code("51185008", "SCT", "Chest")])
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _describe_pixels(dataset: FileDataset, pixels: Pixels, bits: int) -> None:
    top = 2**bits - 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    # LINEAR (PS3.3 C.11.2.1.2): this centre and width map 0 to black and the largest value to white.
    dataset.WindowCenter, dataset.WindowWidth = (top + 1) / 2, top + 1
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.ImagerPixelSpacing = [round(_FILM_HEIGHT_MM / n, 5) for n in pixels.shape]
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() + b"\0" * (pixels.nbytes % 2)
