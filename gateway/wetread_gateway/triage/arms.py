"""Which arm of the rollout reads a study: fixed with its first instance, so that a study never changes arm."""

from __future__ import annotations

STABLE = "stable"


def assign(study_uid: str, patient_digest: str) -> str:
    """Give the arm of a study that is seen for the first time. There is one as long as no rollout is under way."""
    return STABLE
