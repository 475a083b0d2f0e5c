"""Which arm reads: a pure function of the rollout and a key, the same in the gateway and in every client."""

from __future__ import annotations

import hashlib
import hmac

from wetread_client.rollout.document import Arm, Key, Rollout

_SPACE = 2**64


def assign(rollout: Rollout | None, key: str) -> Arm:
    """Give the arm that reads whatever has this key; the stable one where there is no rollout or no share.

    A key's place on the unit interval depends on the salt alone, so a growing share only adds keys to the candidate.
    """
    if rollout is None or rollout.candidate is None or rollout.candidate_percent <= 0:
        return Arm.STABLE
    if not rollout.stable:
        return Arm.STABLE
    return Arm.CANDIDATE if place(rollout.salt, key) * 100 < rollout.candidate_percent else Arm.STABLE


def place(salt: str, key: str) -> float:
    """Give a key's place in [0, 1): uniform over keys, HMAC-SHA-256 of the key under the salt."""
    digest = hmac.digest(salt.encode(), key.encode(), hashlib.sha256)
    return int.from_bytes(digest[:8]) / _SPACE


def key_of(rollout: Rollout, *, patient_id: str, study_uid: str, accession: str = "") -> str:
    """Choose the value that the rollout assigns by: Patient ID (0010,0020), Study Instance UID or Accession Number.

    Without a Patient ID or Accession Number it is the study's UID: strangers must not share an arm by sharing nothing.
    """
    chosen = {Key.PATIENT: patient_id, Key.STUDY: study_uid, Key.ACCESSION: accession}[rollout.key]
    return chosen.strip() or study_uid
