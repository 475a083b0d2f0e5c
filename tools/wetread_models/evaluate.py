"""Read a folder of labelled films with any model.onnx and pipeline.json, and count; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from wetread_postprocess import Pipeline, Postprocessor

from wetread_models.calibrate import Interval, Rates, bootstrap_auc, probability, rates
from wetread_models.data import IMAGE_SIZE, DataError, as_image, list_films, read_pictures, split_patients
from wetread_models.statistics import (
    Agreement,
    CalibrationError,
    Difference,
    agreement,
    bootstrap_difference,
    calibration_error,
    delong,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from wetread_models.calibrate import Labels, Scores
    from wetread_models.data import FilmFile

    Floats = npt.NDArray[np.float32]

CHUNK = 8
_GEOMETRY = f'{{"rows": {IMAGE_SIZE}, "columns": {IMAGE_SIZE}}}'.encode()


@dataclass(frozen=True)
class Outputs:
    """What the network says of n films."""

    logits: npt.NDArray[np.float64]
    """[n]"""
    activation: Floats
    """[n,7,7]"""
    features: Floats
    """[n,F]"""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one folder."""

    label: str
    films: int
    patients: int
    auc: Interval
    rates: Rates
    threshold: float
    temperature: float
    novel: float
    """Share of films whose NOVELTY is above 1."""
    calibration: CalibrationError
    compared: Comparison | None = None
    """With the reference, where there is one."""


@dataclass(frozen=True)
class Comparison:
    """The model against a reference on the same films, by the same rules."""

    flips: tuple[str, ...]
    """Files that the two decide otherwise."""
    flip_share: float
    mean_change: float
    """Mean |difference of probability|."""
    auc_difference: Difference
    """The model's less the reference's; patients drawn with replacement."""
    delong: Difference


class OnnxClassifier:
    """model.onnx on the CPU."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        if not path.is_file():
            raise DataError(f"{path} is missing: give the folder of a classifier version, or its model.onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def outputs(self, pictures: npt.NDArray[np.uint8], progress: Callable[[int], None] = lambda _: None) -> Outputs:
        """Outputs for films uint8 [n,224,224]; `progress` gets the number of films done."""
        parts = []
        for start in range(0, len(pictures), CHUNK):
            chunk = as_image(pictures[start : start + CHUNK])
            parts.append(self.session.run(["LOGITS", "ACTIVATION", "FEATURES"], {"IMAGE": chunk}))
            progress(start + len(chunk))
        logits, activation, features = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Outputs(logits[:, 0].astype(np.float64), activation[:, 0], features)


def evaluate(
    folder: Path,
    model: Path,
    card: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    reference: Path | None = None,
    test_split: int | None = None,
) -> Evaluation:
    """Read folder/{NORMAL,PNEUMONIA} with model.onnx and the rules of the folder `card`, and count.

    Args:
        folder: of the films.
        model: the ONNX file.
        card: folder with pipeline.json and novelty.npz.
        progress: gets the films read and all that will be, the reference's included.
        reference: another ONNX file to compare with.
        test_split: only the patients that a training with this seed kept for its test.

    Raises:
        DataError: a folder or file is missing or is not what it should be.
    """
    for name in ("pipeline.json", "novelty.npz"):
        if not (card / name).is_file():
            raise DataError(f"{card / name} is missing: give the folder of a postprocess version")
    postprocessor, rule = Postprocessor.load(card), Pipeline.load(card).findings[0]
    films = list_films(folder, known_patients=test_split is not None)
    if test_split is not None:
        films = list(split_patients(films, test_split).test)
    pictures = read_pictures(films)
    total = len(films) * (1 if reference is None else 2)
    outputs = OnnxClassifier(model).outputs(pictures, lambda done: progress(done, total))
    probabilities, novel = _readings(postprocessor, outputs)
    labels = np.array([film.label for film in films], dtype=np.int64)
    patients = [film.patient for film in films]
    compared = None
    if reference is not None:
        other = OnnxClassifier(reference).outputs(pictures, lambda done: progress(len(films) + done, total))
        before = probability(other.logits, rule.temperature)
        compared = _compared(
            films, labels, patients, agreement(probabilities, before, rule.threshold), (outputs.logits, other.logits)
        )
    return Evaluation(
        rule.label,
        len(films),
        len(set(patients)),
        bootstrap_auc(outputs.logits, labels, patients),
        rates(probabilities, labels, rule.threshold),
        rule.threshold,
        rule.temperature,
        novel,
        calibration_error(probabilities, labels),
        compared,
    )


def read_outputs(card: Path, outputs: Outputs) -> tuple[Scores, Scores | None]:
    """Give probabilities [n, findings] and NOVELTY [n], None where there is none, as serving computes them."""
    postprocessor = Postprocessor.load(card)
    readings = [
        postprocessor.read(logits, activation, features, _GEOMETRY, with_heatmap=False)
        for logits, activation, features in zip(
            outputs.logits[:, None].astype(np.float32), outputs.activation[:, None], outputs.features, strict=True
        )
    ]
    novelty = [reading.novelty[0] for reading in readings if reading.novelty is not None]
    probabilities = np.array([reading.probability for reading in readings], dtype=np.float64)
    return probabilities, np.array(novelty, dtype=np.float64) if novelty else None


def _readings(postprocessor: Postprocessor, outputs: Outputs) -> tuple[Scores, float]:
    """Give each film's probability, and the share of films with NOVELTY above 1, as serving computes them."""
    readings = [
        postprocessor.read(logits, activation, features, _GEOMETRY, with_heatmap=False)
        for logits, activation, features in zip(
            outputs.logits[:, None].astype(np.float32), outputs.activation[:, None], outputs.features, strict=True
        )
    ]
    probabilities = np.array([reading.probability[0] for reading in readings], dtype=np.float64)
    return probabilities, float(np.mean([reading.novelty[0] > 1 for reading in readings]))


def _compared(
    films: Sequence[FilmFile],
    labels: Labels,
    patients: Sequence[str],
    same: Agreement,
    logits: tuple[Scores, Scores],
) -> Comparison:
    # By logits: sure films' probabilities are all 1.
    new, before = logits
    return Comparison(
        tuple(f"{films[index].path.parent.name}/{films[index].path.name}" for index in same.flips),
        same.flip_share,
        same.mean_change,
        bootstrap_difference(new, before, labels, patients),
        delong(new, before, labels),
    )
