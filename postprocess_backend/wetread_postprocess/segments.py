"""What postprocessing needs of a segmenter's `pipeline.json`; the rest of the file travels to clients as it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wetread_postprocess.pipeline import NoveltyRule, read_novelty, read_pipeline_document

_MOST = 255
"""Of a value of SEGMENTATION, which is UINT8."""


@dataclass(frozen=True)
class SegmentRules:
    """Which channels of LOGITS are segments. A segment's value is its channel; channel 0 is the background."""

    values: tuple[int, ...]
    novelty: NoveltyRule | None

    @property
    def channels(self) -> int:
        """The fewest channels that LOGITS must have."""
        return 1 + max(self.values)

    def kept(self, channels: int) -> npt.NDArray[np.uint8] | None:
        """Give what each of `channels` becomes, uint8: itself, or 0 where it is no segment; None: all stay."""
        kept = np.zeros(channels, np.uint8)
        kept[list(self.values)] = self.values
        return None if (kept == np.arange(channels)).all() else kept

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and check `pipeline.json` in `folder`.

        Raises:
            ValueError: no JSON, an unknown schema, a missing or malformed value, no segment, a value out of 1 to 255 or
                given twice.
        """
        path, document = folder / "pipeline.json", read_pipeline_document(folder)
        try:
            values = tuple(_value(each) for each in document["segments"])
            novelty = read_novelty(document, folder)
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if not values:
            raise ValueError(f"{path}: no segment; a segmenter's pipeline has at least one")
        if len(set(values)) < len(values):
            raise ValueError(f"{path}: two segments share a value: {list(values)}")
        return cls(values, novelty)


def _value(segment: dict[str, Any]) -> int:
    value = segment["value"]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise ValueError(f"the value of segment {segment['label']} is {value!r}, not a whole number from 1 to {_MOST}")
    return value
