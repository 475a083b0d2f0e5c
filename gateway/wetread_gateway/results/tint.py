"""Segments in a picture: each in the colour of its release's card, over the slice and in the words beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from wetread_gateway.reading.segmentation import StoredSegmentation

_ALPHA = 110  # of 255: the slice stays readable beneath
_DARKEST = 96  # of a colour's brightest part; a darker one cannot be read on the ground of a picture


def tinted(picture: Image.Image, segmentation: StoredSegmentation, uid: str) -> Image.Image:
    """Lay the labels of the image `uid` over its picture; without them it stays as it is."""
    if uid not in segmentation.sop_uids or any(segmentation.frames):
        return picture
    labels = segmentation.pixels()[segmentation.sop_uids.index(uid)]
    over = Image.fromarray(np.ascontiguousarray(labels)).resize(picture.size, Image.Resampling.NEAREST)
    colours, alpha = [0] * 768, [0] * 256
    for segment in segmentation.segments:
        colours[3 * segment.value : 3 * segment.value + 3] = segment.colour
        alpha[segment.value] = _ALPHA
    mask = over.point(alpha)
    over.putpalette(colours)
    whole = picture.convert("RGB")
    whole.paste(over.convert("RGB"), (0, 0), mask)
    return whole


def readable(colour: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Give a colour in which words can be written; None where it is too dark."""
    return colour if max(colour) >= _DARKEST else None
