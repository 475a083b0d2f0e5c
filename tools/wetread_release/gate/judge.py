"""From answers to figures, and from figures and limits to failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from wetread_models.calibrate import bootstrap_auc, rates
from wetread_models.statistics import agreement, bootstrap_difference, calibration_error, delong

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wetread_models.calibrate import Interval, Labels, Rates, Scores
    from wetread_models.statistics import CalibrationError, Difference

    from wetread_release.gate.films import FilmSet, GateFilm
    from wetread_release.gate.server import Answer


@dataclass(frozen=True)
class Flip:
    """A film on which the two sides decide otherwise for one finding."""

    film: str
    finding: str
    draft: float
    reference: float
    to_positive: bool
    truth: bool | None
    """What the film is labelled as; None: it is not."""


@dataclass(frozen=True)
class Parity:
    """How far the draft's numbers are from the reference's, over the films that both read."""

    films: int
    mean_difference: float
    """Mean |difference of probability| over films and findings."""
    largest_difference: float
    heatmap_levels: float | None
    """Mean |difference| of heatmaps in gray levels of 255; None: one of the two has none of the same size."""
    largest_novelty_difference: float | None
    """None: one of the two tells no novelty."""


@dataclass(frozen=True)
class Accuracy:
    """What one side does on labelled films."""

    auc: Interval
    rates: Rates
    calibration: CalibrationError


@dataclass(frozen=True)
class FindingFigures:
    """One finding on the labelled films."""

    label: str
    films: int
    positives: int
    draft: Accuracy
    reference: Accuracy | None
    difference: Difference | None
    """Draft less reference, over patients drawn with replacement."""
    delong_p: float | None
    """Two-sided, films taken as independent."""


@dataclass(frozen=True)
class Judged:
    """All that the answers say."""

    read: int
    """Films that the draft read."""
    unread: tuple[tuple[str, str], ...]
    """Films that it should have read and did not, with its words."""
    refused: int
    """Films that no side reads."""
    parity: Parity | None
    flips: tuple[Flip, ...]
    findings: tuple[FindingFigures, ...]
    remarks: tuple[str, ...] = ()
    bad_numbers: tuple[str, ...] = field(default=())
    """Films whose probability is no number between 0 and 1."""


@dataclass(frozen=True)
class Asked:
    """What one side was asked and what it answered."""

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    answers: tuple[Answer, ...]


def judge(films: FilmSet, draft: Asked, reference: Asked | None) -> Judged:
    """Compare the answers of draft and reference to the same films, and with the films' labels where there are any."""
    unread, refused = _unread(films.films, draft, reference)
    bad = tuple(
        film.name
        for film, answer in zip(films.films, draft.answers, strict=True)
        if answer.is_read and not all(0 <= value <= 1 for value in answer.probability)
    )
    truth = films.truth(draft.labels)
    shared, remarks = _shared(draft, reference)
    return Judged(
        read=sum(answer.is_read for answer in draft.answers),
        unread=unread,
        refused=refused,
        parity=_parity(draft, reference, shared) if reference and shared else None,
        flips=_flips(films.films, draft, reference, shared, truth) if reference else (),
        findings=() if bad else _findings(films.films, draft, reference, shared, truth),
        remarks=remarks,
        bad_numbers=bad,
    )


def _unread(
    films: Sequence[GateFilm], draft: Asked, reference: Asked | None
) -> tuple[tuple[tuple[str, str], ...], int]:
    unread, refused = [], 0
    for place, (film, answer) in enumerate(zip(films, draft.answers, strict=True)):
        if answer.is_read:
            continue
        # A film that the reference refuses as well is no film for this pipeline; a server's fault is never the film's.
        if answer.is_refusal and reference is not None and not reference.answers[place].is_read:
            refused += 1
        else:
            unread.append((film.name, answer.error))
    return tuple(unread), refused


def _shared(draft: Asked, reference: Asked | None) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Pair the places of the findings that both sides have; remarks name the others."""
    if reference is None:
        return (), ()
    pairs = tuple(
        (place, reference.labels.index(of)) for place, of in enumerate(draft.labels) if of in reference.labels
    )
    remarks = []
    if new := [label for label in draft.labels if label not in reference.labels]:
        remarks.append(f"the reference does not tell {', '.join(new)}: nothing to compare with")
    if gone := [label for label in reference.labels if label not in draft.labels]:
        remarks.append(f"the draft no longer tells {', '.join(gone)}")
    return pairs, tuple(remarks)


def _both(draft: Asked, reference: Asked) -> list[tuple[int, Answer, Answer]]:
    pairs = enumerate(zip(draft.answers, reference.answers, strict=True))
    return [(place, new, old) for place, (new, old) in pairs if new.is_read and old.is_read]


def _parity(draft: Asked, reference: Asked, shared: Sequence[tuple[int, int]]) -> Parity | None:
    both = _both(draft, reference)
    if not both:
        return None
    new = np.array([[answer.probability[place] for place, _ in shared] for _, answer, _ in both]).ravel()
    old = np.array([[answer.probability[place] for _, place in shared] for _, _, answer in both]).ravel()
    change = agreement(new, old, 0.5)
    heat = [
        float(np.abs(a.heatmap.astype(np.int16) - b.heatmap.astype(np.int16)).mean())
        for _, a, b in both
        if a.heatmap is not None and b.heatmap is not None and a.heatmap.shape == b.heatmap.shape
    ]
    novelty = [abs(a.novelty - b.novelty) for _, a, b in both if a.novelty is not None and b.novelty is not None]
    return Parity(
        len(both),
        change.mean_change,
        change.largest_change,
        float(np.mean(heat)) if heat else None,
        max(novelty) if novelty else None,
    )


def _flips(
    films: Sequence[GateFilm],
    draft: Asked,
    reference: Asked | None,
    shared: Sequence[tuple[int, int]],
    truth: Mapping[str, tuple[bool, ...]],
) -> tuple[Flip, ...]:
    assert reference is not None
    return tuple(
        Flip(
            films[place].name,
            draft.labels[here],
            new.probability[here],
            old.probability[there],
            new.positive[here],
            truth[films[place].name][here] if films[place].name in truth else None,
        )
        for place, new, old in _both(draft, reference)
        for here, there in shared
        if new.positive[here] != old.positive[there]
    )


def _findings(
    films: Sequence[GateFilm],
    draft: Asked,
    reference: Asked | None,
    shared: Sequence[tuple[int, int]],
    truth: Mapping[str, tuple[bool, ...]],
) -> tuple[FindingFigures, ...]:
    there = dict(shared)
    places = [
        place
        for place, film in enumerate(films)
        if film.name in truth
        and draft.answers[place].is_read
        and (reference is None or reference.answers[place].is_read)
    ]
    found = []
    for finding, label in enumerate(draft.labels):
        labels = np.array([truth[films[place].name][finding] for place in places], dtype=np.int64)
        if not len(labels) or labels.min() == labels.max():
            continue  # an AUC needs films of both kinds
        # Drawn are patients within each class: one who has films of both is drawn in each.
        patients = [
            f"{films[place].patient or films[place].name}/{positive}"
            for place, positive in zip(places, labels.tolist(), strict=True)
        ]
        new = _scores(draft, places, finding)
        old = _scores(reference, places, there[finding]) if reference and finding in there else None
        difference = None if old is None else bootstrap_difference(new, old, labels, patients)
        found.append(
            FindingFigures(
                label,
                len(labels),
                int(labels.sum()),
                _accuracy(new, labels, patients, draft.thresholds[finding]),
                None
                if old is None or reference is None
                else _accuracy(old, labels, patients, reference.thresholds[there[finding]]),
                difference,
                None if old is None else delong(new, old, labels).p,
            )
        )
    return tuple(found)


def _scores(asked: Asked, places: Sequence[int], finding: int) -> Scores:
    return np.array([asked.answers[place].probability[finding] for place in places], dtype=np.float64)


def _accuracy(scores: Scores, labels: Labels, patients: Sequence[str], threshold: float) -> Accuracy:
    return Accuracy(
        bootstrap_auc(scores, labels, patients), rates(scores, labels, threshold), calibration_error(scores, labels)
    )
