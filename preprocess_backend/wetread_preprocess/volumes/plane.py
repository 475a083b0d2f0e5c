"""Where an image lies and what its stored values mean: the attributes of one plane, of a file or of a frame."""

from typing import TypeAlias

from pydicom.multival import MultiValue

from wetread_preprocess.attributes import Attributes, attribute_name
from wetread_preprocess.errors import InvalidDicom
from wetread_preprocess.volumes.stack import Point

Six: TypeAlias = tuple[float, float, float, float, float, float]


def texts(read: Attributes, keyword: str) -> tuple[str, ...]:
    """All values as text, in capitals."""
    value = read.raw(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list | tuple | MultiValue) else (value,)
    return tuple(str(each).strip().upper() for each in values)


def as_written(read: Attributes, keyword: str) -> str:
    """All values as one text, numbers in one way of writing: `3`, `3.0` and `3.00` are the same."""
    return "\\".join(map(_one_way, texts(read, keyword)))


def _one_way(text: str) -> str:
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text


def numbers(read: Attributes, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` numbers, or None when absent.

    Raises:
        InvalidDicom: another count.
    """
    found = read.floats(keyword)
    if not found:
        return None
    if len(found) != count:
        raise InvalidDicom(f"{attribute_name(keyword)} has {len(found)} values, not {count}")
    return found


def position(read: Attributes) -> Point | None:
    """Image Position (Patient) (0020,0032), or None when absent."""
    found = numbers(read, "ImagePositionPatient", 3)
    return None if found is None else (found[0], found[1], found[2])


def orientation(read: Attributes) -> Six | None:
    """Image Orientation (Patient) (0020,0037), or None when absent."""
    found = numbers(read, "ImageOrientationPatient", 6)
    return None if found is None else (found[0], found[1], found[2], found[3], found[4], found[5])


def pixel_spacing(read: Attributes) -> tuple[float, float] | None:
    """Pixel Spacing (0028,0030), or None when absent.

    Raises:
        InvalidDicom: not above 0.
    """
    found = numbers(read, "PixelSpacing", 2)
    if found is None:
        return None
    if min(found) <= 0:
        raise InvalidDicom(f"{attribute_name('PixelSpacing')} is {found[0]:g}, {found[1]:g}; it is above 0")
    return found[0], found[1]


def rescale(read: Attributes) -> tuple[float, float]:
    """Rescale Slope (0028,1053) and Intercept (0028,1052), 1 and 0 when absent.

    Raises:
        InvalidDicom: a slope of 0.
    """
    slopes, intercepts = read.floats("RescaleSlope"), read.floats("RescaleIntercept")
    slope = slopes[0] if slopes else 1.0
    if slope == 0.0:
        raise InvalidDicom(f"{attribute_name('RescaleSlope')} is 0")
    return slope, intercepts[0] if intercepts else 0.0
