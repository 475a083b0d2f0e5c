"""What the gateway knows of an instance without its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Door = Literal["dimse", "stow", "read"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an instance came in. It travels in the file's own meta information, so that the spool explains itself.

    `calling_ae`: Source Application Entity Title (0002,0016). `called_ae`: Receiving Application Entity Title
    (0002,0018). The rest is JSON in Private Information (0002,0102).
    """

    door: Door
    calling_ae: str
    called_ae: str
    address: str
    association: str
    received_at: float
    """Seconds since 1970."""
    stat: bool = False


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """The attributes that decide what becomes of an instance; empty where the file has none."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    modality: str
    body_part: str = ""
    view: str = ""
    study_description: str = ""
    series_description: str = ""
    instance_number: int | None = None
    expected_instances: int | None = None
    """Instances of its series, where the sender says so: Number of Series Related Instances (0020,1209)."""
    accession_number: str = ""
    has_pixels: bool = True
    ours: bool = False
    """Made by Wetread: Contributing Equipment Sequence (0018,A001) or our UIDs say so."""

    @property
    def patient_digest(self) -> str:
        """Tells patients apart without naming them: SHA-256 over PatientID and its issuer."""
        return hashlib.sha256(f"{self.patient_id}\x1f{self.issuer_of_patient_id}".encode()).hexdigest()


def study_key(study_instance_uid: str) -> str:
    """Give the short key that stands for a study in logs and metrics."""
    return hashlib.sha256(study_instance_uid.encode()).hexdigest()[:12]
