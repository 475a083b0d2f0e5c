"""Every number that the model card states, and how each is measured; needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from wetread_models.calibrate import Interval, Rates, auc, bootstrap_auc, probability, rates
from wetread_models.data import NORMAL, PNEUMONIA
from wetread_models.novelty import distances
from wetread_models.perturbations import PERTURBATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from wetread_postprocess import FeatureStatistics

    from wetread_models.artefacts import Calibration
    from wetread_models.data import FilmFile, Split
    from wetread_models.evaluate import OnnxClassifier


@dataclass(frozen=True)
class Part:
    """How many films and patients a part of the split holds."""

    films: int
    patients: int
    pneumonia: int


@dataclass(frozen=True)
class Robustness:
    """Held-out films, all changed in one way, at the shipped threshold."""

    perturbation: str
    auc: float
    sensitivity: float
    specificity: float
    mean_change: float
    """Mean |change of probability| against the unchanged film."""
    novel: float
    """Share of the films with NOVELTY above 1."""


@dataclass(frozen=True)
class Shortcut:
    """How far something that is not the lung tells the classes apart, and the model where it cannot help."""

    name: str
    auc: float
    """Of the shortcut alone on the held-out films, 0.5-1."""
    matched_pairs: int
    model_auc_matched: float
    """Of the model on pairs of one normal and one pneumonia film that the shortcut cannot tell apart."""


@dataclass(frozen=True)
class SyntheticRates:
    """How drawn films of seeds that the fit did not see are read."""

    label: str
    films: int
    spread: float
    read_as_label: float
    novelty_median: float
    novelty_below_1: float


@dataclass(frozen=True)
class Figures:
    """The content of figures.json."""

    seed: int
    epochs: int
    training_minutes: float
    parts: dict[str, Part]
    calibration: Calibration
    auc_test: Interval
    auc_held_out: Interval
    test: Rates
    test_virus_sensitivity: float
    test_bacteria_sensitivity: float
    calibration_half: Rates
    swapped: Rates
    """The halves exchanged: temperature and threshold from the test half, rates on the calibration half."""
    log_loss_test: float
    log_loss_test_uncalibrated: float
    novel_share_test: float
    """Share of test films above the 99th percentile of the calibration half."""
    robustness: tuple[Robustness, ...]
    shortcuts: tuple[Shortcut, ...]
    strangers: dict[str, float]
    """NOVELTY of pictures that are no chest films."""
    synthetic: tuple[SyntheticRates, ...]

    def save(self, path: Path) -> None:
        """Write figures.json."""
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")


def parts_of(split: Split) -> dict[str, Part]:
    """Sizes of a split's parts."""
    named = {"train": split.train, "calibration": split.calibration, "test": split.test}
    return {
        name: Part(len(films), len({f.patient for f in films}), sum(f.label for f in films))
        for name, films in named.items()
    }


def labels_of(films: Sequence[FilmFile]) -> npt.NDArray[np.int64]:
    """Labels [n], 1 = pneumonia."""
    return np.array([film.label for film in films], dtype=np.int64)


def interval_of(logits: npt.NDArray[np.float64], films: Sequence[FilmFile]) -> Interval:
    """AUC with its patient-grouped interval."""
    return bootstrap_auc(logits, labels_of(films), [film.patient for film in films])


def robustness(
    classifier: OnnxClassifier,
    pictures: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    calibration: Calibration,
    statistics: FeatureStatistics,
    report: Callable[[str], None],
) -> tuple[Robustness, ...]:
    """The table of perturbations over films uint8 [n,224,224]."""
    rows: list[Robustness] = []
    plain = None
    for name, change in PERTURBATIONS.items():
        outputs = classifier.outputs(np.stack([change(p) for p in pictures]))
        logits = outputs.logits
        values = probability(logits, calibration.temperature)
        novel = float((distances(statistics, outputs.features) > calibration.novelty_99).mean())
        plain = values if plain is None else plain
        at = rates(values, labels, calibration.threshold)
        moved = float(np.abs(values - plain).mean())
        rows.append(Robustness(name, auc(logits, labels), at.sensitivity, at.specificity, moved, novel))
        report(f"{name}: AUC {rows[-1].auc:.4f}, sensitivity {at.sensitivity:.3f}, specificity {at.specificity:.3f}")
    return tuple(rows)


def shortcuts(
    films: Sequence[FilmFile], pictures: npt.NDArray[np.uint8], logits: npt.NDArray[np.float64]
) -> tuple[Shortcut, ...]:
    """What a model could cheat with, on held-out films."""
    edge = np.ones(pictures.shape[1:], dtype=bool)
    edge[20:-20, 20:-20] = False
    detail = np.abs(np.diff(pictures.astype(np.int16), axis=2)).mean(axis=(1, 2))
    named = {
        "size of the JPEG file": np.array([film.path.stat().st_size for film in films], dtype=np.float64),
        "mean gray level": pictures.mean(axis=(1, 2)),
        "mean gray level of the border": pictures[:, edge].mean(axis=1),
        "contrast (standard deviation)": pictures.std(axis=(1, 2)),
        "sharpness (mean step between neighbours)": detail,
    }
    labels = labels_of(films)
    return tuple(_shortcut(name, values, labels, logits) for name, values in named.items())


def _shortcut(
    name: str, values: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], logits: npt.NDArray[np.float64]
) -> Shortcut:
    alone = auc(values, labels)
    normal, sick = (np.flatnonzero(labels == label) for label in (NORMAL, PNEUMONIA))
    tolerance = 0.02 * float(values.std())
    free = set(sick.tolist())
    chosen: list[int] = []
    for film in normal.tolist():
        near = [other for other in free if abs(values[other] - values[film]) <= tolerance]
        if near:
            partner = min(near, key=lambda other: abs(values[other] - values[film]))
            free.discard(partner)
            chosen += [film, partner]
    matched = auc(logits[chosen], labels[chosen]) if chosen else float("nan")
    return Shortcut(name, max(alone, 1 - alone), len(chosen) // 2, matched)


def replace_synthetic(result: Figures, rows: tuple[SyntheticRates, ...]) -> Figures:
    """The figures with those of the synthetic films."""
    return replace(result, synthetic=rows)
