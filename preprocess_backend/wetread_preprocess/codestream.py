"""The few facts of a JPEG 2000 codestream that decide how it is decoded: ISO/IEC 15444-1 Annex A."""

import struct
from dataclasses import dataclass

from wetread_preprocess.errors import InvalidDicom

_SOC, _SIZ, _COD, _SOT = 0xFF4F, 0xFF51, 0xFF52, 0xFF90


@dataclass(frozen=True)
class Codestream:
    """What SIZ and COD state."""

    rows: int
    columns: int
    components: int
    precision: int
    """Bits of the first component."""
    signed: bool
    levels: int
    """Wavelet decomposition levels: how often the image can be halved before decoding."""
    start: int
    """Offset of the codestream in the frame; JP2 boxes may stand before it."""


def read_codestream(frame: bytes) -> Codestream:
    """Walk the main header.

    Raises:
        InvalidDicom: no JPEG 2000 codestream, or its header is cut short.
    """
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise InvalidDicom("the frame holds no JPEG 2000 codestream")
    try:
        _, _, x_size, y_size, x_offset, y_offset = struct.unpack_from(">HHIIII", frame, start + 4)
        components, depth = struct.unpack_from(">HB", frame, start + 40)
        at, levels = start + 2, None
        while levels is None:
            marker, length = struct.unpack_from(">HH", frame, at)
            if marker == _COD:
                levels = frame[at + 9]
            if marker == _SOT or length < 2:
                break
            at += 2 + length
    except (struct.error, IndexError) as error:
        raise InvalidDicom("the JPEG 2000 codestream's header is cut short") from error
    if levels is None:
        raise InvalidDicom("the JPEG 2000 codestream has no COD marker")
    return Codestream(
        rows=y_size - y_offset,
        columns=x_size - x_offset,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        levels=levels,
        start=start,
    )


def reduction(codestream: Codestream, size: tuple[int, int], reduce_from: int) -> int:
    """How many levels may be left undecoded so that rows and columns still reach `size`.

    None in an image whose shorter side is below `reduce_from`: small images carry detail down to the last pixel, and
    there the low band strays too far from the average of the pixels.
    """
    levels = 0
    if min(codestream.rows, codestream.columns) < reduce_from:
        return levels
    while levels < codestream.levels and all(
        side >> (levels + 1) >= wanted for side, wanted in zip((codestream.rows, codestream.columns), size, strict=True)
    ):
        levels += 1
    return levels
