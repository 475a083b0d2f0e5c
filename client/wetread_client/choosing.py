"""Which pipeline reads what: a table over modality and body part, and the reason in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """What one pipeline reads.

    `modalities`: Modality (0008,0060). `body_parts`: Body Part Examined (0018,0015) is the pipeline's where it contains
    one of these; they tell pipelines of one modality apart. Whether a part is read at all is for the release to say.
    """

    pipeline: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    is_series: bool


RULES = (
    Rule("chest_xray", ("CR", "DX", "RG", "OT"), ("CHEST", "THORAX", "LUNG"), is_series=False),
    Rule("chest_ct", ("CT",), ("CHEST", "THORAX", "LUNG"), is_series=True),
    Rule("brain_mr", ("MR",), ("BRAIN", "HEAD", "SKULL"), is_series=True),
)
FILMS = RULES[0]
"""What a file that does not say its modality is taken for, so that a server names what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A pipeline and why it is the one; `pipeline` None: none reads it, and `why` says what would help."""

    pipeline: str | None
    why: str


def choose(modality: str, body_part: str = "") -> Choice:
    """Choose the pipeline by Modality (0008,0060) and, of several, by Body Part Examined (0018,0015)."""
    if not modality:
        return Choice(FILMS.pipeline, f"pictures, and files that tell no modality: {FILMS.pipeline}")
    rules = [rule for rule in RULES if modality in rule.modalities]
    if not rules:
        read = ", ".join(f"{' '.join(rule.modalities)} ({rule.pipeline})" for rule in RULES)
        why = f"no pipeline reads Modality (0008,0060) {modality}; read are {read}; another is named with --pipeline"
        return Choice(None, why)
    if not body_part:
        return Choice(rules[0].pipeline, f"{modality}, no Body Part Examined: {rules[0].pipeline}")
    told = f"{modality}, Body Part Examined {body_part}"
    for rule in rules:
        if any(part in body_part for part in rule.body_parts):
            return Choice(rule.pipeline, f"{told}: {rule.pipeline}")
    return Choice(rules[0].pipeline, f"{told}: {rules[0].pipeline}, for want of another that reads {modality}")


def is_series(modality: str) -> bool:
    """Say whether images of this modality are read by the series; one that nothing reads fails as a whole, too."""
    return modality not in FILMS.modalities
