"""What only a human can say of a model, and the questions that are still open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from wetread_release.errors import BadDraft
from wetread_release.new.hints import Scores, Values
from wetread_release.wiring import CANDIDATE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3, 8.1)."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class TensorNames:
    """Which outputs of the file are which; empty: found by its shape (scores), or not there (the others)."""

    scores: str = ""
    activation: str = ""
    """[batch, labels, h, w]: each cell's contribution to the logit, for heatmaps."""
    features: str = ""
    """[batch, F], for novelty."""


@dataclass(frozen=True)
class Wish:
    """A pipeline as its maker describes it."""

    name: str
    labels: tuple[str, ...]
    """Of the scores, in their order."""
    modalities: tuple[str, ...]
    body_part: str = ""
    """Body Part Examined (0018,0015) of the films it reads."""
    views: tuple[str, ...] = ()
    """View Position (0018,5101) it is meant for; empty: any."""
    age_years: tuple[float, float] = (0.0, 130.0)
    background: tuple[str, ...] = ()
    """Labels that are no finding."""
    codes: Mapping[str, tuple[Code, ...]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """On the probability, by label; 0.5 where none is given."""
    values: Values | None = None
    scores: Scores | None = None
    size: tuple[int, int] | None = None
    """Rows and columns, where the file leaves them open."""
    recipe: Mapping[str, object] = field(default_factory=dict)
    """Keys of recipe.json that replace what would follow from the rest."""
    tensors: TensorNames = TensorNames()
    heatmap_scale: float = 0.0
    """The contribution to the logit that a heatmap shows as 255."""
    novelty: Path | None = None
    """novelty.npz: statistics of the features of known films."""
    novelty_99: float = 0.0
    """The distance that 99 % of them do not reach."""
    statement: str = ""
    """Of the intended use."""
    manufacturer: str = ""

    @property
    def findings(self) -> tuple[tuple[int, str], ...]:
        """Give column and label of every finding."""
        return tuple((place, label) for place, label in enumerate(self.labels) if label not in self.background)


@dataclass(frozen=True)
class Question:
    """Something that neither the file nor an option has answered."""

    option: str
    text: str
    choices: tuple[str, ...] = ()


def open_questions(wish: Wish, values: Values | None, scores: Scores | None, *, sized: bool) -> Iterator[Question]:
    """Give what is still to be asked; `values`, `scores` and `sized`: what the file has told."""
    if not (wish.values or values or {"mean", "scale"} <= wish.recipe.keys()):
        text = (
            "Which values does the model want for black and white? levels: 0..255, unit: 0..1, symmetric: -1..1, "
            "imagenet: 0..1 less ImageNet's mean over its deviation (others: mean and scale in a --recipe)"
        )
        yield Question("--values", text, get_args(Values))
    if not (wish.scores or scores):
        text = (
            "What are its scores? logits: a sigmoid each is still to come, class_logits: a softmax over all is still "
            "to come, probabilities: neither"
        )
        yield Question("--scores", text, get_args(Scores))
    if not wish.body_part:
        yield Question("--body-part", "Which body part do its films show, as Body Part Examined (0018,0015) spells it?")
    if not (sized or wish.size or "size" in wish.recipe):
        yield Question("--size", "Which size does the model want, ROWSxCOLUMNS? The file leaves it open")


def check(wish: Wish) -> None:
    """Check what is said against itself.

    Raises:
        BadDraft: with the option at fault and the remedy.
    """
    check_name(wish)
    check_words(wish)
    if wish.tensors.activation and not wish.heatmap_scale > 0:
        raise BadDraft("--activation-output needs --heatmap-scale: the contribution to the logit that is shown as 255")


def check_name(wish: Wish) -> None:
    """Check that a pipeline can be called so; BadDraft where not."""
    if not _NAME.fullmatch(wish.name) or wish.name.endswith(CANDIDATE_SUFFIX):
        raise BadDraft(
            f"{wish.name!r} cannot name a pipeline: lower-case letters, digits and single underscores, a letter first, "
            f"not ending in {CANDIDATE_SUFFIX}"
        )


def check_words(wish: Wish) -> None:
    """Check labels, what refers to them and novelty against each other; BadDraft with the option at fault."""
    if not wish.labels:
        raise BadDraft("--labels is missing: a label for each score, in the model's order")
    if not all(wish.labels) or len(set(wish.labels)) < len(wish.labels):
        raise BadDraft(f"--labels {','.join(wish.labels)}: every score has a label of its own")
    named = (("--background", wish.background), ("--codes", wish.codes), ("--threshold", wish.thresholds))
    for option, labels in named:
        if strange := sorted(set(labels) - set(wish.labels)):
            raise BadDraft(f"{option} names {', '.join(strange)}; --labels has {', '.join(wish.labels)}")
    if not wish.findings:
        raise BadDraft("every label is background: a pipeline has at least one finding")
    if bool(wish.tensors.features) != (wish.novelty is not None) or (wish.novelty and not wish.novelty_99 > 0):
        raise BadDraft("--features-output, --novelty and --novelty-99 go together: which output, statistics and limit")
