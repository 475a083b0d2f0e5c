"""What a file says of itself before its pixels: the facts that rules, triage, `explain` and the doors go by."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.filereader import read_sequence

from wetread_gateway.errors import BadInstance
from wetread_gateway.instance import InstanceFacts
from wetread_gateway.triage.header import Element, Header, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.sequence import Sequence

MANUFACTURER = "Wetread"
PROCESSING_EQUIPMENT = ("109102", "DCM")  # CID 7005: what made an object of others

_CHARACTER_SET = 0x00080005
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_MODALITY = 0x00080060
_STUDY_DESCRIPTION = 0x00081030
_SERIES_DESCRIPTION = 0x0008103E
_ACCESSION = 0x00080050
_PATIENT_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_ISSUER = 0x00100021
_BIRTH_DATE = 0x00100030
_SEX = 0x00100040
_BODY_PART = 0x00180015
_VIEW = 0x00185101
_CONTRIBUTING_EQUIPMENT = 0x0018A001
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_INSTANCE_NUMBER = 0x00200013
_SERIES_INSTANCES = 0x00201209
# What names the patient and the study: whoever changes one of these has corrected the instance.
_IDENTITY = (_PATIENT_ID, _ISSUER, _BIRTH_DATE, _SEX, _ACCESSION, _STUDY)
_WANTED = frozenset(
    (
        *_IDENTITY,
        _PATIENT_NAME,
        _CHARACTER_SET,
        _SOP_CLASS,
        _SOP_INSTANCE,
        _MODALITY,
        _STUDY_DESCRIPTION,
        _SERIES_DESCRIPTION,
        _BODY_PART,
        _VIEW,
        _CONTRIBUTING_EQUIPMENT,
        _SERIES,
        _INSTANCE_NUMBER,
        _SERIES_INSTANCES,
    )
)
_META_SOP_CLASS, _META_SOP_INSTANCE = 0x00020002, 0x00020003
_LONGEST_UID = 64  # PS3.5, 9.1


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look at a file's header tells. `identity_digest`: SHA-256 over all that names patient and study.

    `dataset_at`: where its dataset begins, past the file meta information, which is the sender's and ours.
    """

    facts: InstanceFacts
    identity_digest: str
    dataset_at: int


def instance_facts(path: Path) -> InstanceFacts:
    """Read the facts of the file at `path`, not its pixels; BadInstance, with the reason, where it is no instance."""
    return look(path).facts


def look(path: Path) -> Sighting:
    """Read what triage goes by; BadInstance, with the reason, where the file is no instance."""
    header = read_header(path, _WANTED)
    text = _Texts(header)
    facts = InstanceFacts(
        sop_instance_uid=_uid(header, _SOP_INSTANCE, "SOP Instance UID", _META_SOP_INSTANCE),
        sop_class_uid=_uid(header, _SOP_CLASS, "SOP Class UID", _META_SOP_CLASS),
        transfer_syntax_uid=header.transfer_syntax_uid,
        study_instance_uid=_uid(header, _STUDY, "Study Instance UID"),
        series_instance_uid=_uid(header, _SERIES, "Series Instance UID"),
        patient_id=text(_PATIENT_ID),
        issuer_of_patient_id=text(_ISSUER),
        modality=text(_MODALITY)[:16],
        body_part=text(_BODY_PART),
        view=text(_VIEW),
        study_description=text(_STUDY_DESCRIPTION),
        series_description=text(_SERIES_DESCRIPTION),
        instance_number=text.number(_INSTANCE_NUMBER),
        expected_instances=text.number(_SERIES_INSTANCES),
        accession_number=text(_ACCESSION),
        has_pixels=header.has_pixels,
        ours=_is_ours(header),
    )
    # Trailing delimiters of a name say nothing (PS3.5, 6.2.1.2), and senders differ in them.
    name = "=".join(group.rstrip("^ ") for group in text(_PATIENT_NAME).split("=")).rstrip("=")
    identity = "\x1f".join((name, *(text(tag) for tag in _IDENTITY)))
    return Sighting(facts, hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest(), header.dataset_at)


def _uid(header: Header, tag: int, name: str, meta: int = 0) -> str:
    element = header.elements.get(tag)
    raw = (element.value if element else b"").strip(b"\0 ") or header.meta.get(meta, b"").strip(b"\0 ")
    if not raw:
        raise BadInstance(f"it has no {name}")
    # Digits and dots are what the standard has, letters what some modalities write; they are kept as they are.
    if len(raw) > _LONGEST_UID or not raw.isascii() or not raw.replace(b".", b"").replace(b"-", b"").isalnum():
        raise BadInstance(f"its {name} is none")
    return raw.decode("ascii")


class _Texts:
    """Values as text: decoded from the file's character sets, without what DICOM pads them with."""

    def __init__(self, header: Header) -> None:
        self._header = header

    def __call__(self, tag: int) -> str:
        element = self._header.elements.get(tag)
        if element is None:
            return ""
        value = element.value
        plain = value.isascii() and b"\x1b" not in value
        return (value.decode("ascii") if plain else self._decoded(value)).strip(" \0\t\r\n")

    def number(self, tag: int) -> int | None:
        try:
            return int(self(tag))
        except ValueError:
            return None

    def _decoded(self, value: bytes) -> str:
        character_set = self._header.elements.get(_CHARACTER_SET)
        terms = "" if character_set is None else character_set.value.decode("ascii", "replace").strip(" \0")
        with warnings.catch_warnings():  # a wrong character set costs a letter here, not the film
            warnings.simplefilter("ignore")
            try:
                encodings = convert_encodings([term.strip() for term in terms.split("\\")])
                return decode_bytes(value, encodings, set())
            except (LookupError, ValueError):
                return value.decode("latin-1")


def _is_ours(header: Header) -> bool:
    element = header.elements.get(_CONTRIBUTING_EQUIPMENT)
    if element is None:
        return False
    return any(
        str(item.get("Manufacturer", "")).strip() == MANUFACTURER
        and any(
            (purpose.get("CodeValue"), purpose.get("CodingSchemeDesignator")) == PROCESSING_EQUIPMENT
            for purpose in item.get("PurposeOfReferenceCodeSequence") or ()
        )
        for item in _items(element)
    )


def _items(element: Element) -> Sequence:
    length = 0xFFFFFFFF if element.undefined_length else len(element.value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_sequence(
                io.BytesIO(element.value),
                element.implicit_vr,
                element.little_endian,
                length,
                ["iso8859"],
            )
    except (AttributeError, EOFError, KeyError, NotImplementedError, OSError, RecursionError, ValueError) as error:
        raise BadInstance("its Contributing Equipment Sequence cannot be read") from error
