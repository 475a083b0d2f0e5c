"""Pictures of readings: the film in its own window, the heatmap over it, a caption below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wetread_client.film import is_picture, secondary_capture
from wetread_client.film_pixels import CannotDraw, film_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from wetread_client.reading import Reading

__all__ = ["CannotDraw", "OverlayFolder", "draw"]

LONGEST_SIDE = 1024
# From amber through orange and red to crimson: none of it looks like bone or consolidation, which are white.
_STOPS = np.array([[255, 205, 40], [255, 150, 20], [245, 80, 20], [220, 20, 40], [175, 0, 70]], np.float32)
_STRONGEST_ALPHA = 0.55


class OverlayFolder:
    """A folder of pictures, one a film, named after its file; a name taken in this run gets a number."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._names: dict[str, int] = {}

    def draw(self, file: Path, reading: Reading) -> Path:
        """Draw one film's reading; CannotDraw when its pixels cannot be decoded here."""
        count = self._names[file.name] = self._names.get(file.name, 0) + 1
        target = self._folder / (f"{file.name}.png" if count == 1 else f"{file.name}.{count}.png")
        film = secondary_capture(file) if is_picture(file) else file.read_bytes()
        draw(film_pixels(film), reading).save(target)
        return target


def draw(film: NDArray[np.uint8], reading: Reading) -> Image.Image:
    """Give the picture of one film, uint8 [rows, columns], white for dense.

    The heatmap of the most probable positive finding lies over it; a negative reading shows the film alone.
    """
    base = Image.fromarray(film)
    scale = LONGEST_SIDE / max(base.size)
    size = (max(1, round(base.width * scale)), max(1, round(base.height * scale)))
    picture = base.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC).convert("RGB")
    positive = [place for place, finding in enumerate(reading.findings) if finding.positive]
    if positive and reading.heatmap is not None:
        shown = max(positive, key=lambda place: reading.findings[place].probability)
        picture = _heat(picture, reading.heatmap[shown])
    return _with_caption(picture, _caption(reading))


def _heat(picture: Image.Image, heatmap: NDArray[np.uint8]) -> Image.Image:
    """Lay the heatmap over the picture, more opaque where it is stronger."""
    smooth = Image.fromarray(heatmap).resize(picture.size, Image.Resampling.BICUBIC)
    value = np.asarray(smooth, np.float32) / 255
    place = value * (len(_STOPS) - 1)
    below = np.minimum(place.astype(np.intp), len(_STOPS) - 2)
    share = (place - below)[..., None]
    colour = _STOPS[below] * (1 - share) + _STOPS[below + 1] * share
    alpha = (_STRONGEST_ALPHA * np.clip((value - 0.08) / 0.6, 0, 1))[..., None]
    blended = np.asarray(picture, np.float32) * (1 - alpha) + colour * alpha
    return Image.fromarray(blended.round().astype(np.uint8))


def _caption(reading: Reading) -> list[str]:
    findings = [
        f"{finding.label}: {finding.probability:.3f} ({'positive' if finding.positive else 'negative'})"
        for finding in reading.findings
    ]
    novelty = "" if reading.novelty is None else f", novelty {reading.novelty:.2f}"
    unlike = ", unlike training films" if reading.is_unlike_training else ""
    below = f"{reading.pipeline}, release {reading.release}{novelty}{unlike}"
    return [*findings, below, "not for clinical use"]


def _with_caption(picture: Image.Image, lines: list[str]) -> Image.Image:
    """Put the lines on a dark strip below the picture, so that they hide nothing of the film."""
    height = 28
    font = ImageFont.load_default(size=height * 2 // 3)
    wide = max(picture.width, 24 + round(max(font.getlength(line) for line in lines)))
    whole = Image.new("RGB", (wide, picture.height + height * len(lines) + height // 2), (18, 20, 24))
    whole.paste(picture, ((wide - picture.width) // 2, 0))
    pen = ImageDraw.Draw(whole)
    for place, line in enumerate(lines):
        colour = (240, 240, 240) if place < len(lines) - 2 else (165, 170, 180)
        pen.text((12, picture.height + height // 4 + place * height), line, colour, font)
    return whole
