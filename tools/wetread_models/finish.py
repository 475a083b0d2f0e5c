"""From a training checkpoint to everything that ships: weights, calibration, novelty, synthetic films, card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wetread_models import figures, novelty, reference, strangers
from wetread_models.artefacts import CLASSIFIER, POSTPROCESS, SYNTHETIC_FILMS, Calibration, write_pipeline
from wetread_models.augment import augment
from wetread_models.calibrate import (
    SENSITIVITY_MARGIN,
    TARGET_SENSITIVITY,
    choose_threshold,
    fit_temperature,
    log_loss,
    probability,
    rates,
)
from wetread_models.card import write_card
from wetread_models.data import PNEUMONIA, FilmFile, Split, read_pictures
from wetread_models.evaluate import OnnxClassifier, Outputs
from wetread_models.export import export
from wetread_models.network import load_classifier
from wetread_models.synthetic import LABELS, FilmModel
from wetread_models.synthetic_fit import draw, fit_film_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from wetread_postprocess import FeatureStatistics

FRESH_SEEDS = range(10_000, 10_200)
"""Synthetic films that the fit did not see."""
_TRIED_FILMS = 100


@dataclass(frozen=True)
class Read:
    """Films of one part of the split with what the exported network says of them."""

    films: tuple[FilmFile, ...]
    pictures: npt.NDArray[np.uint8]
    outputs: Outputs

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[n], 1 = pneumonia."""
        return figures.labels_of(self.films)


@dataclass(frozen=True)
class Places:
    """Where the artefacts go."""

    repository: Path
    """A Triton model repository."""
    version: int = 1

    @property
    def classifier(self) -> Path:
        """The classifier's folder."""
        return self.repository / CLASSIFIER

    @property
    def model(self) -> Path:
        """model.onnx."""
        return self.classifier / str(self.version) / "model.onnx"

    @property
    def postprocess(self) -> Path:
        """The folder of pipeline.json and novelty.npz."""
        return self.repository / POSTPROCESS / str(self.version)


def finish(
    checkpoint: Path, split: Split, places: Places, dicom: Path, report: Callable[[str], None]
) -> figures.Figures:
    """Write every artefact of a trained checkpoint; `dicom` may hold pictures of other things than chests."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    gap = export(load_classifier(checkpoint), places.model)
    report(f"{places.model}: {places.model.stat().st_size / 1e6:.1f} MB, within {gap:.1e} of torch")
    classifier = OnnxClassifier(places.model)
    train, half, test = (_read(classifier, films) for films in (split.train, split.calibration, split.test))
    report("read all films with the exported network")
    statistics = novelty.fit(classifier.outputs(_varied(train.pictures, state["options"]["seed"])).features)
    calibration = calibrate(half, test, statistics)
    write_pipeline(places.postprocess / "pipeline.json", calibration, _reference((half, test), calibration, statistics))
    novelty.save(statistics, places.postprocess / "novelty.npz")
    report(f"temperature {calibration.temperature:.3f}, threshold {calibration.threshold:.3f}")
    films = _film_model(classifier, train, calibration)
    films.save(places.classifier / SYNTHETIC_FILMS)
    result = _figures(
        torch.load(checkpoint, weights_only=True),
        split,
        calibration,
        statistics,
        classifier,
        (half, test),
        dicom,
        report,
    )
    result = _with_synthetic(result, classifier, films, statistics)
    result.save(places.classifier / "figures.json")
    write_card(places.classifier / "CARD.md", result)
    return result


def _varied(pictures: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """One augmented variant of each film: noise, crops and resolutions of other places are no novelty."""
    rng = np.random.default_rng((seed, 1))
    others = rng.integers(len(pictures), size=len(pictures))
    return np.stack([augment(film, pictures[other], rng) for film, other in zip(pictures, others, strict=True)])


def _read(classifier: OnnxClassifier, films: Sequence[FilmFile]) -> Read:
    pictures = read_pictures(films)
    return Read(tuple(films), pictures, classifier.outputs(pictures))


def calibrate(half: Read, test: Read, statistics: FeatureStatistics) -> Calibration:
    """Temperature and threshold from the calibration half; scales of heatmap and novelty from all held-out films."""
    temperature, threshold = _operating_point(half)
    peaks = np.concatenate(
        [part.outputs.activation.max(axis=(1, 2))[part.labels == PNEUMONIA] for part in (half, test)]
    )
    distance = np.concatenate([novelty.distances(statistics, part.outputs.features) for part in (half, test)])
    scale = max(float(np.percentile(peaks, 99)), 1e-3)
    return Calibration(temperature, threshold, scale, float(np.percentile(distance, 99)))


def _reference(parts: Sequence[Read], calibration: Calibration, statistics: FeatureStatistics) -> dict[str, Any] | None:
    """Say how probability and NOVELTY lie on all held-out films, where there are enough of them."""
    values = np.concatenate([probability(part.outputs.logits, calibration.temperature) for part in parts])
    distance = np.concatenate([novelty.distances(statistics, part.outputs.features) for part in parts])
    if len(values) < reference.FEWEST:
        return None
    source = f"{len(values)} films of the training hospital, of patients held out of training"
    return reference.reference(("pneumonia",), values[:, None], distance / calibration.novelty_99, source)


def _operating_point(part: Read) -> tuple[float, float]:
    temperature = fit_temperature(part.outputs.logits, part.labels)
    values = probability(part.outputs.logits, temperature)
    return temperature, choose_threshold(values, part.labels, TARGET_SENSITIVITY + SENSITIVITY_MARGIN)


def _film_model(classifier: OnnxClassifier, train: Read, calibration: Calibration) -> FilmModel:
    def read_positive(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        values = probability(classifier.outputs(pictures).logits, calibration.temperature)
        return np.asarray(values >= calibration.threshold)

    mixed = np.random.default_rng(0).permutation(len(train.films))
    tried = min(_TRIED_FILMS, len(mixed))
    return fit_film_model(train.pictures[mixed], train.labels[mixed], read_positive, tried)


def _figures(
    state: dict[str, Any],
    split: Split,
    calibration: Calibration,
    statistics: FeatureStatistics,
    classifier: OnnxClassifier,
    parts: tuple[Read, Read],
    dicom: Path,
    report: Callable[[str], None],
) -> figures.Figures:
    half, test = parts
    held_out = half.films + test.films
    pictures = np.concatenate([half.pictures, test.pictures])
    logits = np.concatenate([half.outputs.logits, test.outputs.logits])
    values = probability(test.outputs.logits, calibration.temperature)
    swapped_temperature, swapped_threshold = _operating_point(test)
    limit = np.percentile(novelty.distances(statistics, half.outputs.features), 99)
    return figures.Figures(
        seed=state["options"]["seed"],
        epochs=state["epoch"],
        training_minutes=round(state.get("seconds", 0.0) / 60, 1),
        parts=figures.parts_of(split),
        calibration=calibration,
        auc_test=figures.interval_of(test.outputs.logits, test.films),
        auc_held_out=figures.interval_of(logits, held_out),
        test=rates(values, test.labels, calibration.threshold),
        test_virus_sensitivity=_sensitivity_of("virus", test, values, calibration.threshold),
        test_bacteria_sensitivity=_sensitivity_of("bacteria", test, values, calibration.threshold),
        calibration_half=rates(
            probability(half.outputs.logits, calibration.temperature), half.labels, calibration.threshold
        ),
        swapped=rates(probability(half.outputs.logits, swapped_temperature), half.labels, swapped_threshold),
        log_loss_test=log_loss(test.outputs.logits, test.labels, calibration.temperature),
        log_loss_test_uncalibrated=log_loss(test.outputs.logits, test.labels),
        novel_share_test=float((novelty.distances(statistics, test.outputs.features) > limit).mean()),
        robustness=figures.robustness(
            classifier,
            pictures,
            figures.labels_of(held_out),
            calibration,
            statistics,
            report,
        ),
        shortcuts=figures.shortcuts(held_out, pictures, logits),
        strangers=_stranger_novelty(classifier, statistics, calibration, dicom),
        synthetic=(),
    )


def _sensitivity_of(cause: str, part: Read, values: npt.NDArray[np.float64], threshold: float) -> float:
    chosen = np.array([film.patient.startswith(cause) for film in part.films])
    return float((values[chosen] >= threshold).mean()) if chosen.any() else float("nan")


def _stranger_novelty(
    classifier: OnnxClassifier, statistics: FeatureStatistics, calibration: Calibration, dicom: Path
) -> dict[str, float]:
    named = [*strangers.drawn(), *strangers.pydicom_files(), *strangers.real(dicom)]
    features = classifier.outputs(np.stack([picture for _, picture in named])).features
    values = novelty.distances(statistics, features) / calibration.novelty_99
    return {name: round(float(value), 2) for (name, _), value in zip(named, values, strict=True)}


def _with_synthetic(
    result: figures.Figures, classifier: OnnxClassifier, films: FilmModel, statistics: FeatureStatistics
) -> figures.Figures:
    calibration = result.calibration
    seeds = FRESH_SEEDS[: result.parts["train"].films]
    rows = []
    for value, label in enumerate(LABELS):
        outputs = classifier.outputs(draw(films, label, seeds))
        positive = probability(outputs.logits, calibration.temperature) >= calibration.threshold
        strange = novelty.distances(statistics, outputs.features) / calibration.novelty_99
        rows.append(
            figures.SyntheticRates(
                label,
                len(seeds),
                films.classes[label].spread,
                float((positive == bool(value)).mean()),
                float(np.median(strange)),
                float((strange < 1).mean()),
            )
        )
    return figures.replace_synthetic(result, tuple(rows))
