"""Whether a reading may be told: only for the images that its release is meant for."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.results.source import Source

_DAYS_A_UNIT = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


def judge(source: Source, reading: StoredReading, unknown_age_is_inside: bool) -> tuple[str, ...]:
    """Give the reasons why nothing may be coded present or absent; none: the image is of the intended use.

    A view that the file does not name is no reason: novelty tells a lateral film, where the release has it. An unknown
    age is one, unless `unknown_age_is_inside`.
    """
    reasons = []
    if reading.intended_modalities and source.modality not in reading.intended_modalities:
        reasons.append(
            f"Outside the intended use: modality {source.modality or 'unknown'}, "
            f"meant for {', '.join(reading.intended_modalities)}"
        )
    if reading.intended_views and source.view and source.view not in reading.intended_views:
        reasons.append(f"Outside the intended use: view {source.view}, meant for {', '.join(reading.intended_views)}")
    if reading.intended_age_years is not None:
        first, last = reading.intended_age_years
        years = age_years(source)
        if years is None:
            if not unknown_age_is_inside:
                reasons.append(f"Outside the intended use: age unknown, meant for {first:g} to {last:g} years")
        elif not first <= years < last + 1:  # the last year is lived to its end
            reasons.append(f"Outside the intended use: age {_told(years)}, meant for {first:g} to {last:g} years")
    if reading.novelty is not None and not reading.novelty <= 1:  # NaN too
        reasons.append(f"Unlike the images that the algorithm was made with: novelty {reading.novelty:.2f}, limit 1")
    return tuple(reasons)


def age_years(source: Source) -> float | None:
    """Give the age at the study, in years; None when neither Patient's Age nor the dates tell it."""
    stated = source.by_keyword.get("PatientAge", "")
    if stated:
        return int(stated[:3]) * _DAYS_A_UNIT[stated[3]] / 365.25
    born, seen = source.by_keyword["PatientBirthDate"], source.by_keyword["StudyDate"]
    if not born or not seen:
        return None
    birth, study = _date(born), _date(seen)
    if study < birth:
        return None
    birthdays = study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))
    return birthdays if birthdays else (study - birth).days / 365.25


def _date(digits: str) -> date:
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def _told(years: float) -> str:
    return f"{years:.0f} years" if years >= 2 else f"{years * 12:.0f} months"
