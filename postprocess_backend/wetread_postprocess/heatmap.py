"""Class activation map to HEATMAP: the contribution to the logit, at the film's aspect."""

import functools

import numpy as np
import numpy.typing as npt

Activation = npt.NDArray[np.float32]
LONGEST_SIDE = 224


def heatmap_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the heatmap of a film: its aspect, the longest side 224."""
    longest = max(rows, columns, 1)
    return max(1, round(LONGEST_SIDE * rows / longest)), max(1, round(LONGEST_SIDE * columns / longest))


def heatmap(activation: Activation, scale: float, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Interpolate `activation` [7, 7] to `size`; 0 is no contribution or one against the finding, 255 is `scale`."""
    down = _linear_weights(activation.shape[0], size[0])
    across = _linear_weights(activation.shape[1], size[1])
    levels = down @ (activation * np.float32(255.0 / scale)) @ across.T
    return np.clip(levels + np.float32(0.5), 0.0, 255.0).astype(np.uint8)


@functools.lru_cache(maxsize=256)
def _linear_weights(count: int, target: int) -> Activation:
    """Linear interpolation [target, count] between cell centres, constant beyond the outermost."""
    at = np.clip((np.arange(target) + 0.5) * count / target - 0.5, 0, count - 1)
    return np.asarray(np.clip(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0, 1.0), np.float32)
