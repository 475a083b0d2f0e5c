"""Typed access to a dataset's attributes, with errors that name the attribute."""

import functools
import math
import struct
from typing import Any

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from wetread_preprocess.errors import InvalidDicom

# What pydicom raises while it converts a malformed value.
_VALUE_ERRORS = (
    AttributeError,
    BytesLengthException,
    EOFError,
    IndexError,
    KeyError,
    LookupError,
    OSError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def attribute_name(keyword: str) -> str:
    """`Rows` -> `Rows (0028,0010)`, as error messages spell it."""
    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@functools.lru_cache(maxsize=256)
def _tag(keyword: str) -> BaseTag:
    """The tag of a keyword, looked up once: a film asks for thirty, and most are absent."""
    return Tag(keyword)


class Attributes:
    """Reads one dataset's values by keyword.

    Raises:
        InvalidDicom: from every method, where the value is missing without a default or malformed.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def first(self, keyword: str) -> Any:
        """The value, the first of several, or None when the attribute is absent or empty."""
        value = self.raw(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = value[0] if len(value) else None
        return None if value is None or value == "" else value

    def raw(self, keyword: str) -> Any:
        """The value as pydicom gives it, or None when absent."""
        tag = _tag(keyword)
        try:
            return self._dataset[tag].value if tag in self._dataset else None
        except _VALUE_ERRORS as error:
            raise InvalidDicom(f"{attribute_name(keyword)} is malformed") from error

    def optional_integer(self, keyword: str) -> int | None:
        """An integer, or None when absent or empty."""
        value = self.first(keyword)
        if value is None:
            return None
        try:
            return int(value)
        except _VALUE_ERRORS as error:
            raise InvalidDicom(f"{attribute_name(keyword)} is no integer") from error

    def integer(self, keyword: str, default: int | None = None) -> int:
        """An integer, or the default when absent or empty."""
        value = self.optional_integer(keyword)
        if value is None:
            value = default
        if value is None:
            raise InvalidDicom(f"{attribute_name(keyword)} is missing; an image needs it")
        return value

    def floats(self, keyword: str) -> tuple[float, ...]:
        """All finite values of a decimal attribute, empty when absent."""
        value = self.raw(keyword)
        try:
            values = value if isinstance(value, MultiValue | list | tuple) else () if value in (None, "") else (value,)
            numbers = tuple(float(each) for each in values)
        except _VALUE_ERRORS as error:
            raise InvalidDicom(f"{attribute_name(keyword)} is no number") from error
        if not all(map(math.isfinite, numbers)):
            raise InvalidDicom(f"{attribute_name(keyword)} is not finite")
        return numbers

    def text(self, keyword: str, default: str) -> str:
        """A code string, stripped and in capitals, or the default when absent or empty."""
        value = self.first(keyword)
        return default if value is None else str(value).strip().upper()

    def items(self, keyword: str) -> tuple[Dataset, ...]:
        """A sequence's items, none when absent.

        A value of another type than a sequence counts as malformed.
        """
        value = self.raw(keyword)
        try:
            return tuple(value) if value is not None else ()
        except _VALUE_ERRORS as error:
            raise InvalidDicom(f"{attribute_name(keyword)} is malformed") from error
