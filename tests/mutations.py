"""Films that are wrong in some way, seeded: truncated, flipped, with absurd attributes, bombs, broken frames."""

from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING

from films import (
    DEFLATED_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    JPEG_XL_LOSSLESS,
    Stored,
    changed,
    compressed,
    film,
    frame_of,
    radiograph,
    to_bytes,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_COMPRESSED = (
    JPEG2000Lossless, RLELossless, JPEGLSLossless, JPEGLosslessSV1, JPEG_XL_LOSSLESS, JPEGBaseline8Bit,
    DEFLATED_FRAME, ENCAPSULATED_UNCOMPRESSED,
)  # fmt: skip
_ABSURD = (0, 1, 31, 255, 4096, 32767, 65535)


class Mutations:
    """Draws wrong films; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._films = [film(radiograph(rows, columns, 8)) for rows, columns in ((256, 256), (300, 280), (512, 400))]
        self._films.append(film(Stored(radiograph(256, 300)), WindowCenter=2000, WindowWidth=3000))
        self._frames = {
            (index, syntax): frame_of(each, syntax)
            for index, each in enumerate(self._films)
            for syntax in _COMPRESSED
            if syntax != JPEGBaseline8Bit or each.BitsAllocated == 8
        }
        self._native = [to_bytes(each, syntax) for each in self._films for syntax in _NATIVE]
        self._kinds: tuple[Callable[[], bytes], ...] = (
            self._truncated, self._flipped_header, self._flipped_anywhere, self._wrong_length, self._absurd,
            self._broken_frame, self._broken_frame, self._broken_frame, self._lying_frame, self._dropped_bytes,
            self._deflate_bomb, self._frame_bomb,
        )  # fmt: skip

    def draw(self) -> bytes:
        """One wrong film (now and then a mutation happens to change nothing that matters)."""
        return self._random.choice(self._kinds)()

    def _any(self) -> bytes:
        if self._random.random() < 0.5:
            return self._random.choice(self._native)
        (index, syntax), frame = self._random.choice(list(self._frames.items()))
        return compressed(self._films[index], syntax, frame=frame)

    def _truncated(self) -> bytes:
        data = self._any()
        return data[: self._random.randrange(len(data))]

    def _flipped_header(self) -> bytes:
        return self._flip(self._any(), 128, 700)

    def _flipped_anywhere(self) -> bytes:
        data = self._any()
        return self._flip(data, 0, len(data))

    def _flip(self, data: bytes, start: int, stop: int) -> bytes:
        broken = bytearray(data)
        for _ in range(self._random.choice((1, 3, 20))):
            broken[self._random.randrange(start, min(stop, len(data)))] ^= 1 << self._random.randrange(8)
        return bytes(broken)

    def _wrong_length(self) -> bytes:
        """A 32-bit number somewhere in the header becomes another one."""
        broken = bytearray(self._any())
        at = self._random.randrange(132, min(700, len(broken) - 4))
        struct.pack_into("<I", broken, at, self._random.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 10**6)))
        return bytes(broken)

    def _absurd(self) -> bytes:
        index = self._random.randrange(len(self._films))
        values = {
            "Rows": _ABSURD, "Columns": _ABSURD, "BitsAllocated": (1, 8, 12, 16, 32, 64), "BitsStored": range(18),
            "HighBit": range(18), "SamplesPerPixel": (0, 1, 2, 3, 4), "PixelRepresentation": (0, 1, 2),
            "NumberOfFrames": (0, 1, 2, 10**6), "PlanarConfiguration": (0, 1, 7), "PixelPaddingValue": _ABSURD,
            "PhotometricInterpretation": ("RGB", "YBR_FULL_422", "MONOCHROME1", "PALETTE COLOR", "X"),
            "WindowWidth": (0, -1, 1, 1e300, 1e-300), "WindowCenter": (0, 1e300, -1e300), "RescaleSlope": (0, 1e38, -1),
            "RescaleIntercept": (0, 1e38), "Modality": ("CT", ""), "PixelSpacing": ([0, 0], [1e300, 1]),
        }  # fmt: skip
        wrong = {key: self._random.choice(values[key]) for key in self._random.sample(sorted(values), 3)}
        source = self._films[index]
        dataset = changed(type(source)("", {}, file_meta=source.file_meta, preamble=source.preamble))
        for element in source:
            dataset.add_new(element.tag, element.VR, element.value)
        changed(dataset, **wrong)
        if self._random.random() < 0.5:
            return to_bytes(dataset, ImplicitVRLittleEndian if "PixelPaddingValue" in wrong else ExplicitVRLittleEndian)
        syntax = self._random.choice([known for at, known in self._frames if at == index])
        return compressed(dataset, syntax, frame=self._frames[index, syntax])

    def _broken_frame(self) -> bytes:
        """Damage within the compressed frame, mostly in its first bytes, where the codec's own header is."""
        (index, syntax), frame = self._random.choice(list(self._frames.items()))
        near = self._random.choice((80, 400, len(frame)))
        return compressed(self._films[index], syntax, frame=self._flip(frame, 0, near))

    def _lying_frame(self) -> bytes:
        """A frame of another syntax than the file says, or of another film."""
        index, syntax = self._random.choice(list(self._frames))
        other = self._random.choice(list(self._frames.values()))
        return compressed(self._films[index], syntax, frame=other)

    def _dropped_bytes(self) -> bytes:
        data = self._any()
        at = self._random.randrange(len(data))
        return data[:at] + data[at + self._random.choice((1, 2, 16, 1000)) :]

    def _deflate_bomb(self) -> bytes:
        """300 MB of zeros behind a film's header, in 300 KB."""
        data = to_bytes(self._films[0], DeflatedExplicitVRLittleEndian)
        head = data[: 144 + struct.unpack_from("<I", data, 140)[0]]
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        header = inflater.decompress(data[len(head) :])[:400]
        return head + _deflated_bomb(header)

    def _frame_bomb(self) -> bytes:
        """A small codestream whose own header, and the file's, claim 8000 x 8000."""
        side, index = 8000, 3
        dataset = film(Stored(radiograph(64, 64)), Rows=side, Columns=side)
        if self._random.random() < 0.5:
            frame = bytearray(self._frames[index, JPEG2000Lossless])
            at = frame.index(b"\xff\x4f\xff\x51") + 8
            for offset in (0, 16) if self._random.random() < 0.5 else (0,):
                struct.pack_into(">II", frame, at + offset, side, side)
            return compressed(dataset, JPEG2000Lossless, frame=bytes(frame))
        frame = bytearray(self._frames[index, JPEGLSLossless])
        struct.pack_into(">HH", frame, frame.index(b"\xff\xf7") + 5, side, side)
        return compressed(dataset, JPEGLSLossless, frame=bytes(frame))


_BOMB: dict[bytes, bytes] = {}


def _deflated_bomb(header: bytes) -> bytes:
    if header not in _BOMB:
        packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        parts = [packer.compress(header), *(packer.compress(bytes(10**6)) for _ in range(300)), packer.flush()]
        _BOMB[header] = b"".join(parts)
    return _BOMB[header]
