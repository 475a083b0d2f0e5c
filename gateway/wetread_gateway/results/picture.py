"""What a capture looks like: the film, the heatmap over it, its scale, and what the reading says in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 768
"""Least width of a picture: its words need it, however narrow the film is."""
_BANNER = "AI READING - PRELIMINARY, NOT FOR DIAGNOSIS"
_GROUND, _WHITE, _GRAY, _WARNING = (18, 20, 24), (240, 240, 240), (170, 175, 185), (255, 196, 60)
_LARGE, _MEDIUM, _SMALL = 24, 19, 16
_MARGIN = 14
# From amber through orange and red to crimson: none of it looks like bone or consolidation, which are white.
_STOPS = np.array([[255, 205, 40], [255, 150, 20], [245, 80, 20], [220, 20, 40], [175, 0, 70]], np.float32)
_STRONGEST_ALPHA = 0.55
_BAR = (160, 14)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Words:
    """What a picture says. `results`: a line a finding; `warnings`: why nothing is told; `notes`: the small print.

    `colours`: of the results, white where there is none.
    """

    results: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    colours: tuple[Colour | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Heat:
    """A heatmap, uint8 [h, w], and the name of its finding."""

    values: NDArray[np.uint8]
    label: str


def draw(film: Image.Image | None, words: Words, heat: Heat | None) -> Image.Image:
    """Draw a picture, RGB; without `film`, the words alone. `heat` lies over the film and gets a legend."""
    colours = words.colours or (None,) * len(words.results)
    lines = [(line, _LARGE, colour or _WHITE) for line, colour in zip(words.results, colours, strict=True)]
    lines += [(part, _MEDIUM, _WARNING) for line in words.warnings for part in _wrapped(line, _MEDIUM)]
    notes = words.notes if film is not None else ("The image cannot be shown here.", *words.notes)
    lines += [(part, _SMALL, _GRAY) for line in notes for part in _wrapped(line, _SMALL)]
    top = _LARGE + _MARGIN
    film_height = film.height if film is not None else 0
    legend = _BAR[1] + _MARGIN + _SMALL if film is not None and heat is not None else 0
    height = top + film_height + legend + sum(size + 7 for _, size, _ in lines) + 2 * _MARGIN
    # 4:2:2 JPEG works on 16 x 8 blocks
    whole = Image.new("RGB", (WIDTH, height + -height % 8), _GROUND)
    _write(whole, (_MARGIN, 7), _BANNER, _MEDIUM, _WARNING)
    if film is not None:
        shown = _heated(film, heat) if heat is not None else film
        whole.paste(shown, ((WIDTH - film.width) // 2, top))
    if legend and heat is not None:
        _legend(whole, top + film_height + _MARGIN // 2, heat)
    y = top + film_height + legend + _MARGIN
    for line, size, colour in lines:
        _write(whole, (_MARGIN, y), line, size, colour)
        y += size + 7
    return whole


def _heated(film: Image.Image, heat: Heat) -> Image.Image:
    """Lay the heatmap over the film, more opaque where it is stronger."""
    smooth = Image.fromarray(heat.values).resize(film.size, Image.Resampling.BILINEAR)
    colours, alpha = _palette()
    mask = smooth.point(alpha)
    smooth.putpalette(colours)
    whole = film.convert("RGB")
    whole.paste(smooth.convert("RGB"), (0, 0), mask)
    return whole


def _legend(whole: Image.Image, y: int, heat: Heat) -> None:
    """Draw the colour scale, from 0 to the release's maximum, with the film's own maximum marked."""
    width, height = _BAR
    ramp = Image.fromarray(np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, 0))
    colours, _ = _palette()
    ramp.putpalette(colours)
    font = _font(_SMALL)
    before = f"{heat.label}: heatmap   0"
    x = _MARGIN + round(font.getlength(before)) + 8
    _write(whole, (_MARGIN, y), before, _SMALL, _WHITE)
    whole.paste(ramp.convert("RGB"), (x, y + 3))
    most = int(heat.values.max())
    mark = x + most * (width - 1) // 255
    ImageDraw.Draw(whole).line([(mark, y), (mark, y + height + 5)], _WHITE, 2)
    _write(whole, (x + width + 8, y), f"max 255   (here up to {most})", _SMALL, _WHITE)


def _write(whole: Image.Image, at: tuple[int, int], line: str, size: int, colour: Colour) -> None:
    """Write a line on the ground."""
    whole.paste(_written(line, size, colour), at)


@lru_cache(maxsize=512)
def _written(line: str, size: int, colour: Colour) -> Image.Image:
    """Give a line on the ground: most lines are those of the last film, and drawing letters is the dearest part."""
    font = _font(size)
    left, _, right, bottom = font.getbbox(line or " ")
    strip = Image.new("RGB", (max(1, round(right - min(left, 0)) + 2), round(bottom) + 2), _GROUND)
    ImageDraw.Draw(strip).text((0, 0), line, colour, font)
    return strip


@lru_cache(maxsize=1)
def _palette() -> tuple[list[int], list[int]]:
    """Give colour and opacity of each of the 256 values."""
    value = np.arange(256) / 255
    place = value * (len(_STOPS) - 1)
    below = np.minimum(place.astype(np.intp), len(_STOPS) - 2)
    share = (place - below)[:, None]
    colour = _STOPS[below] * (1 - share) + _STOPS[below + 1] * share
    alpha = _STRONGEST_ALPHA * np.clip((value - 0.08) / 0.6, 0, 1)
    return colour.round().astype(int).ravel().tolist(), (alpha * 255).round().astype(int).tolist()


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=256)
def _wrapped(line: str, size: int) -> tuple[str, ...]:
    """Break a line where it would run over the edge."""
    font, made, rest = _font(size), [""], line.split(" ")
    for word in rest:
        longer = f"{made[-1]} {word}".lstrip()
        if made[-1] and font.getlength(longer) > WIDTH - 2 * _MARGIN:
            made.append(word)
        else:
            made[-1] = longer
    return tuple(made)
