"""What a model says of films it did not see in training, as a release tells it: the gateway measures drift from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_models.data import DataError, list_films, read_pictures, split_patients
from wetread_models.evaluate import OnnxClassifier, read_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

BINS = 10
"""Of equal shares: PSI's usual thresholds, 0.1 and 0.25, are those of ten bins."""
FEWEST = 100


def distribution(values: npt.NDArray[np.float64], bins: int = BINS) -> dict[str, list[float]]:
    """Give edges that part `values` into equal shares, and the shares; fewer bins where values are equal.

    A value on an edge belongs to the bin above it, as the gateway counts.
    """
    edges = np.unique(np.round(np.quantile(values, np.arange(1, bins) / bins), 6))
    edges = edges[edges > values.min()]
    if not len(edges):
        raise DataError("all values are equal: there is no distribution to compare with")
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "fractions": np.round(counts / len(values), 6).tolist()}


def reference(
    labels: Sequence[str], probabilities: npt.NDArray[np.float64], novelty: npt.NDArray[np.float64] | None, source: str
) -> dict[str, Any]:
    """Give `reference` of pipeline.json: of each finding, `probabilities` [n, findings], and of NOVELTY [n]."""
    if len(probabilities) < FEWEST:
        raise DataError(f"{len(probabilities)} films are too few to compare a site with: give {FEWEST} at least")
    content: dict[str, Any] = {"readings": len(probabilities), "source": source}
    content["findings"] = {label: distribution(probabilities[:, at]) for at, label in enumerate(labels)}
    if novelty is not None:
        content["novelty"] = distribution(novelty)
    return content


def write_reference(
    folder: Path,
    model: Path,
    card: Path,
    source: str,
    *,
    seed: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Read the films of `folder` and write what is said of them into the folder `card`'s pipeline.json.

    `seed`: only the patients that a training with it held out. DataError when films or files are not what they must be.
    """
    path = card / "pipeline.json"
    if not path.is_file():
        raise DataError(f"{path} is missing: give the folder of a postprocess version")
    document = json.loads(path.read_text())
    films = list_films(folder, known_patients=seed is not None)
    if seed is not None:
        split = split_patients(films, seed)
        films = [*split.calibration, *split.test]
    outputs = OnnxClassifier(model).outputs(read_pictures(films), lambda done: progress(done, len(films)))
    probabilities, novelty = read_outputs(card, outputs)
    labels = [str(finding["label"]) for finding in document["findings"]]
    document["reference"] = reference(labels, probabilities, novelty, source)
    path.write_text(json.dumps(document, indent=2) + "\n")
    return dict(document["reference"])
