"""Pixels to DX files in the benchmark's transfer syntaxes."""

import io
from collections.abc import Callable, Mapping

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

Pixels = npt.NDArray[np.uint16]

SYNTAXES: Mapping[str, UID] = {
    "raw": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpll": JPEGLosslessSV1,
    "jpls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
}
TITLES: Mapping[str, str] = {
    "raw": "uncompressed", "rle": "RLE", "jpll": "JPEG lossless", "jpls": "JPEG-LS", "j2k": "JPEG 2000",
}  # fmt: skip
J2K_LEVELS = 5


def encode(pixels: Pixels, number: int, syntax: str, bits: int) -> bytes:
    """Return the DX file of film `number`, its pixels [rows, columns] of `bits` bits in the named syntax."""
    dataset = _dataset(pixels, number, bits)
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    if syntax == "raw":
        dataset.PixelData = pixels.astype("<u2").tobytes()
    else:
        dataset.PixelData = encapsulate([_FRAMES[syntax](pixels, bits)])
        dataset["PixelData"].VR = "OB"  # PS3.5 A.4
        dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def verify(file: bytes, pixels: Pixels, syntax: str) -> None:
    """Check that the file decodes to `pixels`, bit for bit, by the decoders of Wetread.

    Raises:
        ValueError: it does not.
    """
    dataset = pydicom.dcmread(io.BytesIO(file))
    if syntax == "raw":
        decoded = np.frombuffer(dataset.PixelData, "<u2").reshape(pixels.shape)
    else:
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        decoded = _DECODED[syntax](frame, (pixels.shape[0], pixels.shape[1]))
    if not np.array_equal(decoded, pixels):
        raise ValueError(f"the {TITLES[syntax]} film does not decode to its pixels")


def _jpeg_lossless(pixels: Pixels, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits))


def _jpeg_ls(pixels: Pixels, _: int) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels))


def _jpeg_2000(pixels: Pixels, bits: int) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels,
            level=0,
            reversible=True,
            codecformat="j2k",
            resolutions=J2K_LEVELS + 1,
            bitspersample=bits,
            mct=False,
        )
    )


def _rle(pixels: Pixels, _: int) -> bytes:
    from rle.utils import encode_pixel_data  # noqa: PLC0415 -- each codec is imported at use

    rows, columns = pixels.shape
    told = {
        "rows": rows, "columns": columns, "samples_per_pixel": 1, "bits_allocated": 16, "number_of_frames": 1,
    }  # fmt: skip
    return bytes(encode_pixel_data(pixels.astype("<u2").tobytes(), byteorder="<", **told))


def _decode_rle(frame: bytes, shape: tuple[int, int]) -> Pixels:
    from rle.utils import decode_frame  # noqa: PLC0415

    raw = decode_frame(frame, shape[0] * shape[1], 16, "<")
    return np.frombuffer(raw, "<u2").reshape(shape)


_FRAMES: Mapping[str, Callable[[Pixels, int], bytes]] = {
    "rle": _rle, "jpll": _jpeg_lossless, "jpls": _jpeg_ls, "j2k": _jpeg_2000,
}  # fmt: skip
_DECODED: Mapping[str, Callable[[bytes, tuple[int, int]], Pixels]] = {
    "rle": _decode_rle,
    "jpll": lambda frame, _: np.asarray(imagecodecs.ljpeg_decode(frame)),
    "jpls": lambda frame, _: np.asarray(imagecodecs.jpegls_decode(frame)),
    "j2k": lambda frame, _: np.asarray(imagecodecs.jpeg2k_decode(frame)),
}


def _dataset(pixels: Pixels, number: int, bits: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["wetread bench film", str(number)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["wetread bench study", str(number)])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["wetread bench series", str(number)])
    dataset.PatientName, dataset.PatientID = "BENCHMARK^FILM", f"BENCH-{number:02}"
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"  # the hip of RG2 stands in for a chest
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    dataset.ImagerPixelSpacing = [0.14, 0.14]
    return dataset
