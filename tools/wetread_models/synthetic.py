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

    Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    Floats = npt.NDArray[np.float32]

Label = Literal["normal", "pneumonia"]
LABELS: tuple[Label, ...] = ("normal", "pneumonia")
DRAWN_SIZE = 224
"""Films are drawn at this size, the resolution of the films behind the model, and enlarged from there."""
LARGEST_BITS = 16
_FILM_HEIGHT_MM = 300.0
# A mean over films is softer than a film.
_SHARPENING = 1.5
_SHARPENING_RADIUS = 1.2
_NOISE = 0.4
"""Standard deviation of the noise of single pixels at full size, in gray levels of 255."""


@dataclass(frozen=True)
class ClassModel:
    """The films of one class, brought to one shape: how their gray levels vary, and how their shapes vary."""

    mean: Floats
    """[224,224], gray levels 0-255 of the mean film in the mean shape."""
    components: Floats
    """[k,s,s], principal components of the gray levels, each scaled to one standard deviation."""
    shape_mean: Floats
    """[t,t,2], mean displacement (x, y) in pixels of 224."""
    shape_components: Floats
    """[j,t,t,2], principal components of the displacement, scaled alike."""
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
            arrays[f"{label}_mean"] = model.mean.astype(np.float16)
            arrays[f"{label}_shape_mean"] = model.shape_mean.astype(np.float16)
            arrays[f"{label}_spread"] = np.array(model.spread, dtype=np.float32)
            for name, components in (("components", model.components), ("shape_components", model.shape_components)):
                flat = components.reshape(len(components), -1)
                scale = np.abs(flat).max(axis=1, initial=1e-6) / 127
                arrays[f"{label}_{name}"] = np.rint(flat / scale[:, None]).astype(np.int8).reshape(components.shape)
                arrays[f"{label}_{name}_scale"] = scale.astype(np.float32)
        np.savez_compressed(path, **arrays)

    def picture(self, seed: int, label: Label) -> Floats:
        """A film at 224 x 224 as float32 gray levels in 0-255, white = dense."""
        model = self.classes[label]
        rng = np.random.default_rng((LABELS.index(label), seed))
        texture, shape = (
            # Far tails of a Gaussian are no films.
            np.tensordot(model.spread * np.clip(rng.standard_normal(len(c)), -2, 2), c, axes=1).astype(np.float32)
            for c in (model.components, model.shape_components)
        )
        gray = model.mean + _enlarge(texture, DRAWN_SIZE, DRAWN_SIZE)
        shift = _enlarge(model.shape_mean + shape, DRAWN_SIZE, DRAWN_SIZE)
        y, x = np.mgrid[:DRAWN_SIZE, :DRAWN_SIZE].astype(np.float32)
        # The displacements are smooth and small: their negative stands for their inverse.
        bent = cv2.remap(gray, x - shift[..., 0], y - shift[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        sharp = bent + _SHARPENING * (bent - cv2.GaussianBlur(bent, (0, 0), _SHARPENING_RADIUS))
        return np.asarray(np.clip(sharp, 0, 255), dtype=np.float32)

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
    def components(name: str) -> Floats:
        packed = arrays[f"{label}_{name}"].astype(np.float32)
        scale = arrays[f"{label}_{name}_scale"]
        return np.asarray(packed * scale.reshape(-1, *[1] * (packed.ndim - 1)), dtype=np.float32)

    return ClassModel(
        arrays[f"{label}_mean"].astype(np.float32),
        components("components"),
        arrays[f"{label}_shape_mean"].astype(np.float32),
        components("shape_components"),
        float(arrays[f"{label}_spread"]),
    )


def _enlarge(picture: Floats, rows: int, columns: int) -> Floats:
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
