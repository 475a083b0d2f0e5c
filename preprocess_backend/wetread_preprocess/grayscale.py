"""Stored values to 0-255 display levels: the grayscale pipeline of PS3.3 C.11 and C.8.11.3, on the shrunk film."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from wetread_preprocess.attributes import Attributes
from wetread_preprocess.errors import InvalidDicom
from wetread_preprocess.header import PixelFormat
from wetread_preprocess.samples import FloatImage

# Values and windows beyond this, or windows narrower than its inverse, mean nothing and overflow in float32.
_LARGEST = 1e15
_WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class LookupTable:
    """A modality or VOI LUT: PS3.3 C.11.1.1.1 and C.11.2.1.1."""

    first: int
    """The input that maps to the first entry."""
    entries: npt.NDArray[np.float32]

    def __call__(self, values: FloatImage) -> FloatImage:
        """Look values up, between entries linearly, beyond the ends the end's entry."""
        at = np.arange(self.first, self.first + len(self.entries), dtype=np.float32)
        return np.interp(values, at, self.entries).astype(np.float32)


@dataclass(frozen=True)
class Window:
    """Window Centre and Width (0028,1050-1051) with VOI LUT Function (0028,1056): PS3.3 C.11.2.1.2-3."""

    centre: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: FloatImage) -> FloatImage:
        """Map to 0..1."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4.0 * (values - self.centre) / self.width, -80.0, 80.0)
            return (1.0 / (1.0 + np.exp(exponent))).astype(np.float32)
        if self.function == "LINEAR_EXACT":
            scaled = (values - np.float32(self.centre)) * np.float32(1.0 / self.width) + np.float32(0.5)
        elif self.width == 1.0:
            scaled = (values > self.centre - 0.5).astype(np.float32)
        else:
            scaled = (values - np.float32(self.centre - 0.5)) * np.float32(1.0 / (self.width - 1.0)) + np.float32(0.5)
        return np.clip(scaled, 0.0, 1.0)


def display_levels(
    values: FloatImage, dataset: Dataset, fmt: PixelFormat, percentiles: tuple[float, float]
) -> tuple[FloatImage, list[str]]:
    """Apply modality LUT or rescale, VOI LUT or window, and polarity.

    Args:
        values: stored values [rows, columns], NaN where all is padding.
        dataset: the film's header.
        fmt: its pixel format.
        percentiles: the window of a film above 8 bits that states none.

    Returns:
        levels in 0..255, padding 0 (black), and warnings.

    Raises:
        InvalidDicom: a malformed LUT, slope or intercept.
    """
    read = Attributes(dataset)
    warnings: list[str] = []
    outside = np.isnan(values)
    padded = bool(outside.any())
    values, low, high = _modality(values, read, fmt)
    unit = _values_of_interest(values, read, (low, high), percentiles, fmt, warnings)
    if fmt.photometric == "MONOCHROME1" or read.text("PresentationLUTShape", "IDENTITY") == "INVERSE":
        unit = np.float32(1.0) - unit
    if padded:
        unit[outside] = 0.0
    unit *= np.float32(255.0)
    return unit, warnings


def _modality(values: FloatImage, read: Attributes, fmt: PixelFormat) -> tuple[FloatImage, float, float]:
    """Modality values, and the lowest and highest that the stored bits can give."""
    low = -(2.0 ** (fmt.bits_stored - 1)) if fmt.signed else 0.0
    high = low + 2.0**fmt.bits_stored - 1.0
    tables = read.items("ModalityLUTSequence")
    if tables:
        table = lookup_table(Attributes(tables[0]), "Modality LUT Sequence (0028,3000)", fmt)
        return table(values), float(table.entries.min()), float(table.entries.max())
    slope = (read.floats("RescaleSlope") or (1.0,))[0]
    intercept = (read.floats("RescaleIntercept") or (0.0,))[0]
    if slope == 0.0:
        raise InvalidDicom("Rescale Slope (0028,1053) is 0; every pixel would be equal")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if not -_LARGEST <= ends[0] <= ends[1] <= _LARGEST:
        raise InvalidDicom(f"Rescale Slope and Intercept (0028,1053, 0028,1052) are {slope:g} and {intercept:g}")
    if (slope, intercept) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(intercept)
    return values, ends[0], ends[1]


def _values_of_interest(
    values: FloatImage,
    read: Attributes,
    ends: tuple[float, float],
    percentiles: tuple[float, float],
    fmt: PixelFormat,
    warnings: list[str],
) -> FloatImage:
    tables = read.items("VOILUTSequence")
    if tables:
        # Several tables and windows are alternatives; the first is the default view (C.11.2.1.1).
        table = lookup_table(Attributes(tables[0]), "VOI LUT Sequence (0028,3010)", fmt)
        span = _voi_span(Attributes(tables[0]), table)
        return np.clip(table(values) / np.float32(span), 0.0, 1.0)
    window = _stated_window(read, warnings)
    if window is not None:
        return window(values)
    if fmt.bits_stored <= 8:
        low, high = ends
    else:
        inside = values[~np.isnan(values)]
        low, high = (float(p) for p in np.percentile(inside, percentiles)) if inside.size else ends
        warnings.append("the film states no window; its own percentiles were taken")
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)


def _stated_window(read: Attributes, warnings: list[str]) -> Window | None:
    centres, widths = read.floats("WindowCenter"), read.floats("WindowWidth")
    if not centres or not widths:
        return None
    function = read.text("VOILUTFunction", "LINEAR")
    if function not in _WINDOW_FUNCTIONS:
        warnings.append(
            f"VOI LUT Function (0028,1056) is {function[:16]}, which the standard does not know; LINEAR was taken"
        )
        function = "LINEAR"
    least = 1.0 if function == "LINEAR" else 1.0 / _LARGEST
    if not (least <= widths[0] <= _LARGEST and abs(centres[0]) <= _LARGEST):
        warnings.append(
            f"Window Centre and Width (0028,1050-1051) are {centres[0]:g} and {widths[0]:g}, which is no window; "
            "they were left aside"
        )
        return None
    return Window(centres[0], widths[0], function)


def lookup_table(read: Attributes, name: str, fmt: PixelFormat) -> LookupTable:
    """Read LUT Descriptor and LUT Data of a LUT sequence's item.

    Raises:
        InvalidDicom: the descriptor or data are missing or contradict each other.
    """
    descriptor = read.floats("LUTDescriptor")
    if len(descriptor) != 3:
        raise InvalidDicom(f"{name} has no LUT Descriptor (0028,3002) of three values")
    count = int(descriptor[0]) % 65536 or 65536  # PS3.3 C.11.1.1.1: 0 means 65536
    first = int(descriptor[1])
    if fmt.signed and first >= 32768:
        first -= 65536
    raw = _lut_values(read)
    if len(raw) == (count + 1) // 2 and int(descriptor[2]) <= 8:  # two 8-bit entries packed in each word
        raw = raw.astype("<u2").view(np.uint8)[:count].astype(np.float32)
    if len(raw) < count:
        raise InvalidDicom(f"{name} states {count} entries and LUT Data (0028,3006) holds {len(raw)}")
    return LookupTable(first, raw[:count].astype(np.float32))


def _lut_values(read: Attributes) -> npt.NDArray[np.generic]:
    data = read.raw("LUTData")
    if isinstance(data, bytes):
        return np.frombuffer(data[: len(data) // 2 * 2], "<u2")
    try:
        values = np.asarray(data, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidDicom("LUT Data (0028,3006) is malformed") from error
    if data is None or values.ndim != 1:
        raise InvalidDicom("LUT Data (0028,3006) is missing")
    return values & 0xFFFF


def _voi_span(read: Attributes, table: LookupTable) -> float:
    """The highest output the descriptor's bits allow; some writers state 16 bits and fill 12: then what is filled."""
    bits = int(read.floats("LUTDescriptor")[2])
    stated = 2.0**bits - 1.0 if 1 <= bits <= 16 else 65535.0
    filled = float(table.entries.max())
    return filled if filled > stated or (bits == 16 and 0 < filled < stated / 2) else stated
