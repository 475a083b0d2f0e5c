"""An object on its way out: its bytes, and what must be known of them without decoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from wetread_gateway.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = 132  # preamble and "DICM", PS3.10 7.1
EXPLICIT = str(ExplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One object of ours. `file`: Part 10; `dataset_at`: where its dataset begins in it."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    transfer_syntax_uid: str
    file: bytes = field(repr=False)
    dataset_at: int = 0

    @property
    def dataset(self) -> memoryview:
        """The dataset as it stands in the file."""
        return memoryview(self.file)[self.dataset_at :]

    def series_uid(self) -> str:
        """Read Series Instance UID from the dataset."""
        found = dcmread(BytesIO(self.file), stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(found.SeriesInstanceUID)

    def as_syntax(self, transfer_syntax_uid: str, *, implicit: bool) -> bytes:
        """Give the dataset in another uncompressed syntax; Refused when its pixels cannot be decoded here."""
        dataset = dcmread(BytesIO(self.file))
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            try:
                dataset.decompress(generate_instance_uid=False)
            except (RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
                raise Refused(f"it takes no {self.transfer_syntax_uid}, and that cannot be decoded here") from error
        encoded = encode(dataset, is_implicit_vr=implicit, is_little_endian=True)
        if encoded is None:
            raise Refused(f"the object cannot be written as {transfer_syntax_uid}")
        return bytes(encoded)


def read_outgoing(path: Path, sop_instance_uid: str, sop_class_uid: str, study_uid: str) -> Outgoing:
    """Read an object of ours from its file; FileNotFoundError, or Refused when it is no Part 10 file."""
    content = path.read_bytes()
    at, syntax = _file_meta(content)
    return Outgoing(sop_instance_uid, sop_class_uid, study_uid, syntax, content, at)


def _file_meta(content: bytes) -> tuple[int, str]:
    """Give where the dataset begins, and Transfer Syntax UID: group 0002 is explicit little endian (PS3.10 7.1)."""
    at, syntax = _PREFIX, ""
    if content[128:_PREFIX] != b"DICM":
        raise Refused("the result's file is no DICOM file")
    while content[at : at + 2] == b"\x02\x00":
        is_long = content[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        start = at + (12 if is_long else 8)
        length = int.from_bytes(content[at + 8 : start] if is_long else content[at + 6 : start], "little")
        if content[at + 2 : at + 4] == b"\x10\x00":
            syntax = content[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
        at = start + length
    if not syntax:
        raise Refused("the result's file names no transfer syntax")
    return at, syntax
