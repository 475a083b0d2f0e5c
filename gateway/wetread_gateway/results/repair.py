"""How single values of a real film are decoded, and repaired where they break the standard (PS3.5, 6.2).

Each function gives the value that may stand in a report; an empty one where nothing can be saved of it.
"""

from __future__ import annotations

import re
import warnings
from datetime import date
from typing import TYPE_CHECKING

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PersonName

if TYPE_CHECKING:
    from collections.abc import Sequence

# Character sets of one codec (PS3.3, C.12.1.1.2, tables C.12-2 and C.12-5). What is not here goes through pydicom.
_CODECS = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "ISO_IR 203": "iso8859_15",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
# Multi-byte sets that stand only beside another one (table C.12-4); alone, the first character is lost.
_NEVER_ALONE = frozenset({"ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 149", "ISO 2022 IR 58"})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_TEXT_DELIMITERS = {0x0A, 0x0C, 0x0D}
_SEXES = {
    "m": "M",
    "male": "M",
    "f": "F",
    "female": "F",
    "w": "F",
    "o": "O",
    "other": "O",
}
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_AGE = re.compile(r"(\d{1,3})\s*([DWMY])")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


class Undecodable(ValueError):
    """The bytes are not of the character set that the file names."""


class CharacterSets:
    """The character sets that a file names (0008,0005), mended where their naming is a known mistake."""

    def __init__(self, named: Sequence[str]) -> None:
        names = [name.strip() for name in named] or [""]
        self.repaired = len(names) == 1 and names[0] in _NEVER_ALONE
        self._names = ["", *names] if self.repaired else names
        self._codec = _CODECS.get(self._names[0].replace("ISO 2022 IR", "ISO_IR")) if len(self._names) == 1 else None

    def text(self, value: bytes) -> str:
        """Decode; Undecodable rather than a character lost."""
        return self._decode(value, person=False)

    def name(self, value: bytes) -> str:
        """Decode a person's name with all its groups; Undecodable rather than a character lost."""
        return self._decode(value, person=True)

    def _decode(self, value: bytes, *, person: bool) -> str:
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii")
        if self._codec is not None:
            try:
                return value.decode(self._codec)
            except UnicodeDecodeError:
                return self._guess(value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                encodings = convert_encodings(list(self._names))
                if person:
                    return str(PersonName(value, encodings).decode())
                return decode_bytes(value, encodings, _TEXT_DELIMITERS)
        except (UserWarning, LookupError, ValueError) as error:
            raise Undecodable("not of the named character set") from error

    def _guess(self, value: bytes) -> str:
        """Take UTF-8, which hardly ever fits by chance, where the named set does not fit."""
        try:
            text = value.decode("utf_8")
        except UnicodeDecodeError as error:
            raise Undecodable("not of the named character set") from error
        self.repaired = True
        return text


def plain(value: str) -> str:
    """Text without control characters and padding."""
    return _CONTROLS.sub(" ", value.rstrip(" \0")).rstrip()


def single(value: str) -> str:
    """Text that may hold one value only."""
    return plain(value).replace("\\", "/")


def uid(value: str) -> str:
    """A UID, of digits and dots; leading zeros, which are a mistake, stay, or it would name something else."""
    stripped = value.strip(" \0")
    return stripped if len(stripped) <= 64 and _UID.fullmatch(stripped) else ""


def day(value: str) -> str:
    """A date, also when it was written with separators."""
    digits = re.sub(r"[-./: ]", "", value.strip(" \0"))
    if len(digits) != 8 or not digits.isascii() or not digits.isdigit():
        return ""
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits


def clock(value: str) -> str:
    """A time, also when it was written with colons."""
    digits = value.strip(" \0").replace(":", "")
    return digits if _TIME.fullmatch(digits) else ""


def sex(value: str) -> str:
    """M, F or O; empty when it is not known."""
    return _SEXES.get(value.strip(" \0").lower(), "")


def age(value: str) -> str:
    """An age as nnnD, nnnW, nnnM or nnnY."""
    match = _AGE.fullmatch(value.strip(" \0").upper())
    return f"{int(match[1]):03d}{match[2]}" if match else ""


def decimal(value: str) -> str:
    """A decimal string."""
    stripped = value.strip(" \0")
    return stripped if len(stripped) <= 16 and re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", stripped) else ""


def flag(value: str) -> str:
    """YES or NO."""
    stripped = value.strip(" \0").upper()
    return stripped if stripped in {"YES", "NO"} else ""


def offset(value: str) -> str:
    """An offset from UTC, as +HHMM."""
    stripped = value.strip(" \0")
    return stripped if _OFFSET.fullmatch(stripped) else ""
