"""A source image without its pixels: what the reports need of it, decoded and repaired."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from wetread_gateway.errors import CannotReport
from wetread_gateway.results import repair
from wetread_gateway.results.inherited import INHERITED, Inherited
from wetread_gateway.results.repair import CharacterSets, Undecodable

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset


_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PROJECTION = frozenset({"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"})  # TID 1603
_CROSS_SECTIONAL = frozenset({"CT", "MR", "PT"})  # TID 1604
_SPACE = {"ImagerPixelSpacing": 2, "PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
_SPACE |= {"SliceThickness": 1}
_ORDERS = ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest")
_OTHERS = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "Modality",
    "BurnedInAnnotation",
    "ViewPosition",
    "ViewCodeSequence",
    "InstanceNumber",
    "Rows",
    "Columns",
    "FrameOfReferenceUID",
    "PatientOrientation",
    "RequestAttributesSequence",
    *_ORDERS,
    *_SPACE,
)
_TAGS = [*_UIDS, *(row.keyword for row in INHERITED), *_OTHERS]
# View codes (CID 4010), as ViewPosition names them.
_VIEWS = {"399348003": "AP", "272479007": "PA", "399173006": "LL", "399198007": "RL", "399067008": "LL"}
_TEXT_VRS = frozenset({"LO", "SH", "PN"})


@dataclass(frozen=True, slots=True)
class Request:
    """The request that the source image answers (PS3.3, C.17.2, Referenced Request Sequence)."""

    study_instance_uid: str
    accession_number: str
    placer_order: str
    filler_order: str
    procedure_id: str
    procedure_description: str


@dataclass(frozen=True)
class Source:
    """One source image. `attributes`: (keyword, VR, value) of what a report takes over, in the order of INHERITED.

    `descriptors`: what the image library says of its geometry: keyword and values, complete for its modality or empty.
    `repairs`: the attributes that had to be repaired; never their values.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    view: str
    instance_number: int | None
    timezone: str
    burned_in: str
    """Burned In Annotation: YES, NO, or empty where the film does not say."""
    rows: int
    columns: int
    frame_of_reference_uid: str
    attributes: tuple[tuple[str, str, str], ...]
    descriptors: tuple[tuple[str, tuple[str, ...]], ...]
    requests: tuple[Request, ...]
    repairs: tuple[str, ...]

    @property
    def uid(self) -> str:
        """Its SOP Instance UID."""
        return self.sop_instance_uid

    @cached_property
    def by_keyword(self) -> dict[str, str]:
        """The values of `attributes`."""
        return {keyword: value for keyword, _, value in self.attributes}

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """Read a film's header; CannotReport with the reason when no report can be made of it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they tell of is repaired, or ends as a reason
                dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            return _Reader(dataset).source()
        except CannotReport:
            raise
        except Exception as error:
            raise CannotReport(f"the source cannot be read ({type(error).__name__})") from error


class _Reader:
    """Reads one data set, and remembers what it had to repair."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._repairs: list[str] = []
        named = self._ascii(dataset, "SpecificCharacterSet")
        self._sets = CharacterSets(named.split("\\") if named else [])

    def source(self) -> Source:
        uids = {keyword: self._uid(keyword) for keyword in _UIDS}
        modality = self._ascii(self._dataset, "Modality").strip().upper()
        attributes = tuple(
            (row.keyword, row.vr, value) for row in INHERITED if (value := self._inherited(row)) or row.always
        )
        number = self._ascii(self._dataset, "InstanceNumber").strip()
        return Source(
            sop_class_uid=uids["SOPClassUID"],
            sop_instance_uid=uids["SOPInstanceUID"],
            study_instance_uid=uids["StudyInstanceUID"],
            series_instance_uid=uids["SeriesInstanceUID"],
            modality=modality,
            view=self._view(),
            instance_number=int(number) if number.isascii() and number.lstrip("+-").isdigit() else None,
            timezone=repair.offset(self._ascii(self._dataset, "TimezoneOffsetFromUTC")),
            burned_in=repair.flag(self._ascii(self._dataset, "BurnedInAnnotation")),
            rows=self._count("Rows"),
            columns=self._count("Columns"),
            frame_of_reference_uid=repair.uid(self._ascii(self._dataset, "FrameOfReferenceUID")),
            attributes=attributes,
            descriptors=self._descriptors(modality),
            requests=self._requests(uids["StudyInstanceUID"], {keyword: value for keyword, _, value in attributes}),
            repairs=(*(["SpecificCharacterSet"] * self._sets.repaired), *dict.fromkeys(self._repairs)),
        )

    def _raw(self, dataset: Dataset, keyword: str) -> bytes | None:
        """The value's bytes as they are in the file."""
        tag = tag_for_keyword(keyword)
        assert tag is not None
        element: Any = dataset.get_item(tag)  # raw as it is in the file, unless pydicom needed it itself
        if element is None:
            return None
        if isinstance(element, RawDataElement):
            return element.value or b""
        return element.value if isinstance(element.value, bytes) else str(element.value or "").encode()

    def _ascii(self, dataset: Dataset, keyword: str) -> str:
        element: Any = dataset.get_item(keyword)
        if element is not None and not isinstance(element, RawDataElement):
            value = element.value
            return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
        return (self._raw(dataset, keyword) or b"").decode("ascii", "replace").rstrip(" \0")

    def _uid(self, keyword: str) -> str:
        value = repair.uid(self._ascii(self._dataset, keyword))
        if not value:
            raise CannotReport(f"the source has no valid {keyword}")
        return value

    def _inherited(self, row: Inherited) -> str:
        raw = self._raw(self._dataset, row.keyword)
        if raw is None:
            if row.always:
                self._repairs.append(row.keyword)
            return ""
        return self._mended(raw, row)

    def _mended(self, raw: bytes, row: Inherited) -> str:
        try:
            if row.vr == "PN":
                text = self._sets.name(raw)
            else:
                text = self._sets.text(raw) if row.vr in _TEXT_VRS else raw.decode("ascii")
        except (Undecodable, UnicodeDecodeError) as error:
            if row.identity:
                raise CannotReport(f"{row.keyword} of the source is not of the character set it names") from error
            self._repairs.append(row.keyword)
            return ""
        value = row.mend(text)
        if value != text.rstrip(" \0"):
            self._repairs.append(row.keyword)
        return value

    def _count(self, keyword: str) -> int:
        raw = self._raw(self._dataset, keyword) or b""
        element: Any = self._dataset.get_item(keyword)
        if len(raw) != 2 or not isinstance(element, RawDataElement):
            raise CannotReport(f"the source has no valid {keyword}")
        return int.from_bytes(raw, "little" if element.is_little_endian else "big")

    def _view(self) -> str:
        position = self._ascii(self._dataset, "ViewPosition").strip().upper()
        if position:
            return position
        codes = self._items(self._dataset, "ViewCodeSequence")
        return _VIEWS.get(self._ascii(codes[0], "CodeValue").strip(), "") if codes else ""

    def _items(self, dataset: Dataset, keyword: str) -> list[Dataset]:
        """The items of a sequence; none where it cannot be parsed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return list(dataset.get(keyword) or [])
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, OSError, NotImplementedError, struct.error):
            self._repairs.append(keyword)
            return []

    def _decimals(self, keyword: str, count: int) -> tuple[str, ...]:
        values = tuple(map(repair.decimal, self._ascii(self._dataset, keyword).split("\\")))
        return values if len(values) == count and all(values) else ()

    def _descriptors(self, modality: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What TID 1603 or 1604 wants, when all of it is there; otherwise none, and the library names no geometry."""
        found: tuple[tuple[str, tuple[str, ...]], ...]
        if modality in _PROJECTION:
            ends = tuple(part.strip() for part in self._ascii(self._dataset, "PatientOrientation").split("\\"))
            named = len(ends) == 2 and all(end.isascii() and end.isalpha() for end in ends)
            found = (
                ("PatientOrientation", ends if named else ()),
                ("ImagerPixelSpacing", self._decimals("ImagerPixelSpacing", 2)),
            )
        elif modality in _CROSS_SECTIONAL:
            found = tuple(
                (keyword, self._decimals(keyword, count))
                for keyword, count in _SPACE.items()
                if keyword != "ImagerPixelSpacing"
            )
        else:
            return ()
        missing = [keyword for keyword, values in found if not values]
        self._repairs.extend(missing)
        return () if missing else found

    def _requests(self, study_uid: str, own: dict[str, str]) -> tuple[Request, ...]:
        """The requests named by the image, or the one that its accession number stands for."""
        placer, filler = (self._text(self._dataset, keyword) for keyword in _ORDERS)
        found = [
            Request(
                study_instance_uid=repair.uid(self._ascii(item, "StudyInstanceUID")) or study_uid,
                accession_number=self._text(item, "AccessionNumber") or own["AccessionNumber"],
                placer_order=placer,
                filler_order=filler,
                procedure_id=self._text(item, "RequestedProcedureID"),
                procedure_description=self._text(item, "RequestedProcedureDescription"),
            )
            for item in self._items(self._dataset, "RequestAttributesSequence")
        ]
        if not found and own["AccessionNumber"]:
            found = [Request(study_uid, own["AccessionNumber"], placer, filler, "", "")]
        return tuple(found)

    def _text(self, dataset: Dataset, keyword: str) -> str:
        """Text that may be dropped when it cannot be decoded."""
        raw: Any = self._raw(dataset, keyword) or b""
        try:
            return repair.single(self._sets.text(raw))
        except Undecodable:
            self._repairs.append(keyword)
            return ""
