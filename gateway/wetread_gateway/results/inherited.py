"""The attributes of patient and study that our objects take over from their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wetread_gateway.results import repair

if TYPE_CHECKING:
    from collections.abc import Callable


class Inherited(NamedTuple):
    """An attribute that a report takes over from its source. `identity`: it must not be guessed or dropped."""

    keyword: str
    vr: str
    mend: Callable[[str], str]
    always: bool = True
    identity: bool = False


# Patient, General Study, Patient Study (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2). `always`: type 2, empty where unknown.
INHERITED = (
    Inherited("StudyDate", "DA", repair.day),
    Inherited("StudyTime", "TM", repair.clock),
    Inherited("AccessionNumber", "SH", repair.plain, identity=True),
    Inherited("ReferringPhysicianName", "PN", repair.single),
    Inherited("StudyDescription", "LO", repair.single, always=False),
    Inherited("PatientName", "PN", repair.single, identity=True),
    Inherited("PatientID", "LO", repair.plain, identity=True),
    Inherited("IssuerOfPatientID", "LO", repair.plain, always=False, identity=True),
    Inherited("PatientBirthDate", "DA", repair.day),
    Inherited("PatientSex", "CS", repair.sex),
    Inherited("PatientAge", "AS", repair.age, always=False),
    Inherited("PatientSize", "DS", repair.decimal, always=False),
    Inherited("PatientWeight", "DS", repair.decimal, always=False),
    Inherited("StudyID", "SH", repair.single),
)
