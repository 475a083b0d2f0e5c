"""The process that decodes pixels for triage: `python -m wetread_gateway.triage.pixels PARENT`, JSON lines both ways.

Two files hold the same pixels when their decoded samples are equal, whatever the transfer syntax, and mean the same:
photometric interpretation and rescaling. A lossy syntax gets two units of slack for the rounding of decoders, which the
standards leave open (ISO/IEC 10918-2). A copy compressed anew with loss differs by more, and rightly so: it would have
needed a UID of its own (PS3.3, C.7.6.1.1.5).
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from wetread_gateway.errors import GatewayError
from wetread_gateway.process import die_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MEMORY_BYTES = 4 << 30
LOSSY_SLACK = 2
_BY_PYDICOM = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)
_BY_IMAGECODECS = {
    JPEGBaseline8Bit: "jpeg8_decode",
    JPEGExtended12Bit: "jpeg8_decode",
    JPEGLossless: "ljpeg_decode",
    JPEGLosslessSV1: "ljpeg_decode",
    JPEGLSLossless: "jpegls_decode",
    JPEGLSNearLossless: "jpegls_decode",
    JPEG2000Lossless: "jpeg2k_decode",
    JPEG2000: "jpeg2k_decode",
    HTJ2KLossless: "jpeg2k_decode",
    HTJ2KLosslessRPCL: "jpeg2k_decode",
    HTJ2K: "jpeg2k_decode",
    "1.2.840.10008.1.2.4.110": "jpegxl_decode",  # JPEG XL Lossless; not in pydicom's table yet
}
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


class CannotDecode(GatewayError):
    """The pixels cannot be decoded here."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What samples stand for; two files whose samples are equal show the same only when this is."""

    photometric: str
    frames: int
    slope: float
    intercept: float


class Pixels:
    """The samples of one file, decoded frame by frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dataset = pydicom.dcmread(path)
        self._syntax = self._dataset.file_meta.TransferSyntaxUID
        dataset = self._dataset
        colours = int(dataset.get("SamplesPerPixel", 1)) > 1
        self.is_lossy = self._syntax in _LOSSY
        self.meaning = Meaning(
            "colour" if colours else str(dataset.get("PhotometricInterpretation", "")).strip(),
            int(dataset.get("NumberOfFrames") or 1),
            float(dataset.get("RescaleSlope") or 1),
            float(dataset.get("RescaleIntercept") or 0),
        )

    def frames(self) -> Iterator[NDArray[np.int32]]:
        """Give each frame's values, int32 [rows, columns] or [rows, columns, samples]."""
        dataset = self._dataset
        stored = int(dataset.BitsStored)
        shift = 32 - stored
        # Some syntaxes keep rubbish above the stored bits, some extend the sign, some neither: all come out alike.
        low = int(dataset.HighBit) + 1 - stored if self._syntax in _BY_PYDICOM else 0
        signed = bool(dataset.get("PixelRepresentation", 0))
        for frame in self._decoded():
            field = (frame.astype(np.int64) >> low).astype(np.uint32) << np.uint32(shift)
            yield (field.view(np.int32) >> shift) if signed else (field >> np.uint32(shift)).astype(np.int32)

    def _decoded(self) -> Iterator[NDArray[Any]]:
        if self._syntax in _BY_PYDICOM:
            # Colours as RGB, whatever they were stored as; grays as they are.
            yield from (
                np.asarray(frame) for frame in iter_pixels(self._dataset, raw=self.meaning.photometric != "colour")
            )
            return
        name = _BY_IMAGECODECS.get(self._syntax)
        if name is None:
            raise CannotDecode("no decoder for its transfer syntax")
        try:
            decode = getattr(importlib.import_module("imagecodecs"), name)
        except ImportError as error:
            raise CannotDecode("no decoder for its compression; pip install 'wetread[preprocess]'") from error
        for frame in generate_frames(self._dataset.PixelData, number_of_frames=self.meaning.frames):
            yield np.asarray(decode(frame))


def equal(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same pixels."""
    first, second = Pixels(one), Pixels(other)
    if first.meaning != second.meaning:
        return False
    slack = LOSSY_SLACK if first.is_lossy or second.is_lossy else 0
    for mine, theirs in itertools.zip_longest(first.frames(), second.frames()):
        if mine is None or theirs is None or mine.shape != theirs.shape:
            return False
        if int(np.abs(mine.astype(np.int64) - theirs).max(initial=0)) > slack:
            return False
    return True


def digest(path: Path) -> str:
    """Give the SHA-256 over a file's samples and their meaning."""
    pixels = Pixels(path)
    total = hashlib.sha256(repr(pixels.meaning).encode())
    for frame in pixels.frames():
        total.update(repr(frame.shape).encode())
        total.update(np.ascontiguousarray(frame, "<i4").tobytes())
    return total.hexdigest()


def answer(question: dict[str, Any]) -> dict[str, object]:
    """Answer one question; what is wrong with the pixels is an answer too."""
    try:
        if "equal" in question:
            one, other = question["equal"]
            return {"equal": equal(Path(one), Path(other))}
        return {"digest": digest(Path(question["digest"]))}
    except CannotDecode as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "its pixels take too much memory"}
    except Exception as error:  # noqa: BLE001 -- the outermost loop of this process: a decoder may raise anything
        return {"error": f"its pixels cannot be decoded ({type(error).__name__})"}


def main() -> None:
    """Answer questions until standard input ends."""
    if len(sys.argv) > 1:
        die_with(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
