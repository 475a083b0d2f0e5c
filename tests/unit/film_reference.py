"""The grayscale pipeline a second time, slow and plain: pydicom at full resolution, then an area average in float64."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

RECIPE_FOLDER = Path(__file__).parents[2] / "model_repository" / "chest_xray_preprocess" / "1"
SIZE = (224, 224)


def image(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """IMAGE [224, 224] of a film whose stored values are `stored`."""
    return (resize(levels(dataset, stored), SIZE) - 127.0) / 128.0


def levels(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Display levels 0..255 at full resolution, float64."""
    values = apply_modality_lut(stored, dataset)
    if "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        unit = apply_voi_lut(np.rint(values).astype(np.int64), dataset, 0, prefer_lut=True) / (2.0**bits - 1)
    else:
        low, high = _range(dataset)
        if "WindowCenter" in dataset:
            values = apply_voi_lut(values.astype(np.float64), dataset, 0)
        unit = (values - low) / (high - low)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        unit = 1.0 - unit
    return unit.astype(np.float64) * 255.0


def _range(dataset: Dataset) -> tuple[float, float]:
    """The ends of what pydicom's windowing gives."""
    if "ModalityLUTSequence" in dataset:
        return 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    low = -(2.0 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0.0
    high = low + 2.0**dataset.BitsStored - 1
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch: the area average along an axis that shrinks, linear interpolation along one that grows."""
    for axis, target in enumerate(size):
        count = picture.shape[axis]
        weights = _area(count, target) if target <= count else _linear(count, target)
        picture = np.moveaxis(np.tensordot(weights, picture.astype(np.float64), axes=(1, axis)), 0, axis)
    return picture


def _area(count: int, target: int) -> np.ndarray:
    weights = np.zeros((target, count))
    step = count / target
    for to in range(target):
        left, right = to * step, (to + 1) * step
        for source in range(int(left), min(int(np.ceil(right)), count)):
            weights[to, source] = max(0.0, min(right, source + 1) - max(left, source))
    return weights / weights.sum(axis=1, keepdims=True)


def _linear(count: int, target: int) -> np.ndarray:
    weights = np.zeros((target, count))
    for to in range(target):
        at = min(max((to + 0.5) * count / target - 0.5, 0), count - 1)
        left = min(int(at), count - 2)
        weights[to, left], weights[to, left + 1] = 1 - (at - left), at - left
    return weights
