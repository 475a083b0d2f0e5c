"""Films of one's own by the thousand: one film's bytes under new UIDs, at the price of copying its header."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import FileDataset

_UID_DIGITS = 38  # after 2.25. (PS3.5, B.2); always as many, so that a header keeps its length
_STAMP_PIXELS, _STAMP_BITS = 4, 8  # no two films have equal pixels: their number stands in the first ones


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a film is: every number of a seed has its own patient, study, series and instance."""

    seed: int
    number: int

    def uid(self, kind: str) -> str:
        """Give the UID of `kind`: `study`, `series` or `instance`."""
        digest = hashlib.sha256(f"{self.seed}/{self.number}/{kind}".encode()).digest()
        return f"2.25.{10 ** (_UID_DIGITS - 1) + int.from_bytes(digest[:15], 'big')}"

    @property
    def study_uid(self) -> str:
        """Its study's."""
        return self.uid("study")

    @property
    def sop_uid(self) -> str:
        """Its own."""
        return self.uid("instance")

    @property
    def patient_id(self) -> str:
        """Twelve characters."""
        return f"B{self.seed % 10000:04}{self.number:07}"


_PLACE = Identity(0, 0)


class FilmTemplate:
    """A film of any pixels, uncompressed (Explicit VR Little Endian), that is written again under any identity."""

    def __init__(self, dataset: FileDataset) -> None:
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        dataset.SOPInstanceUID = UID(_PLACE.sop_uid)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _PLACE.study_uid, _PLACE.uid("series")
        dataset.PatientID, dataset.PatientName = _PLACE.patient_id, f"BENCH^{_PLACE.patient_id}"
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        whole = buffer.getvalue()
        at = len(whole) - len(dataset.PixelData)
        assert whole[at:] == dataset.PixelData  # the last element (PS3.5, 7.1)
        self._bytes_a_pixel = int(dataset.BitsAllocated) // 8
        stamped = _STAMP_PIXELS * self._bytes_a_pixel
        self._head, self._pixels = whole[:at], whole[at + stamped :]

    @classmethod
    def of(cls, file: bytes) -> FilmTemplate:
        """Read a DICOM file."""
        return cls(pydicom.dcmread(io.BytesIO(file)))

    @property
    def size(self) -> int:
        """Bytes of a film."""
        return len(self._head) + _STAMP_PIXELS * self._bytes_a_pixel + len(self._pixels)

    def film(self, identity: Identity) -> bytes:
        """Give the film under an identity."""
        return b"".join(self._parts(identity))

    def write(self, path: Path, identity: Identity) -> Path:
        """Write the film under an identity without copying its pixels."""
        with path.open("wb", buffering=0) as file:
            for part in self._parts(identity):
                file.write(part)
        return path

    def rewrite(self, path: Path, identity: Identity) -> Path:
        """Give a file that `write` made another identity: its header alone is written, its pixels stay."""
        head, stamp, _ = self._parts(identity)
        with path.open("r+b", buffering=0) as file:
            file.write(head + stamp)
        return path

    def _parts(self, identity: Identity) -> tuple[bytes, bytes, bytes]:
        head = self._head
        for old, new in (
            (_PLACE.sop_uid, identity.sop_uid),
            (_PLACE.study_uid, identity.study_uid),
            (_PLACE.uid("series"), identity.uid("series")),
            (_PLACE.patient_id, identity.patient_id),
        ):
            head = head.replace(old.encode(), new.encode())
        assert len(head) == len(self._head)
        mask = 2**_STAMP_BITS - 1
        stamp = b"".join(
            (identity.number >> _STAMP_BITS * place & mask).to_bytes(self._bytes_a_pixel, "little")
            for place in range(_STAMP_PIXELS)
        )
        return head, stamp, self._pixels
