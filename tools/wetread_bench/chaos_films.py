"""What the chaos run sends: thousands of films, some of which no pipeline can read, some of which are sent twice."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from wetread_models.synthetic import LABELS, FilmModel

from wetread_bench.fresh_films import FilmTemplate, Identity

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import FileDataset

SIDE, BITS = 512, 16
DRAWINGS = 8  # films differ in UIDs and a few pixels: drawing every one would take a core
BAD_SHARE, TWICE_SHARE = 0.01, 0.02
_LEAST = 3


class Kind(StrEnum):
    """What is wrong with a film."""

    READABLE = "readable"
    TRUNCATED = "truncated"  # half of its pixels
    COLOUR = "colour"
    HEADLESS = "headless"  # no Rows


BAD = (Kind.TRUNCATED, Kind.COLOUR, Kind.HEADLESS)


@dataclass(frozen=True, slots=True)
class Planned:
    """One film to send."""

    identity: Identity
    kind: Kind
    twice: bool


def plan_films(count: int, seed: int) -> list[Planned]:
    """Choose, for each of `count` films, what it is: the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 -- a plan, no secret
    numbers = range(1, count + 1)
    bad = dict.fromkeys(chance.sample(numbers, max(_LEAST, round(count * BAD_SHARE))), Kind.READABLE)
    for place, number in enumerate(bad):
        bad[number] = BAD[place % len(BAD)]
    twice = set(chance.sample(numbers, max(_LEAST, round(count * TWICE_SHARE))))
    return [Planned(Identity(seed, number), bad.get(number, Kind.READABLE), number in twice) for number in numbers]


class FilmMaker:
    """Writes films of about 512 KB: synthetic chest films of 512 x 512 at 16 bits."""

    def __init__(self, checkout: Path) -> None:
        model = FilmModel.load(checkout / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
        drawn = [model.dicom(number, LABELS[number % len(LABELS)], SIDE, SIDE, BITS) for number in range(DRAWINGS)]
        self._readable = [FilmTemplate.of(film) for film in drawn]
        self._bad = {kind: FilmTemplate(_spoilt(drawn[0], kind)) for kind in BAD}

    def write(self, folder: Path, planned: Planned) -> Path:
        """Write one film into `folder`; its name is its number."""
        number = planned.identity.number
        template = self._bad.get(planned.kind) or self._readable[number % DRAWINGS]
        return template.write(folder / f"{number}.dcm", planned.identity)


def _spoilt(film: bytes, kind: Kind) -> FileDataset:
    dataset = pydicom.dcmread(io.BytesIO(film))
    if kind is Kind.TRUNCATED:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    elif kind is Kind.HEADLESS:
        del dataset.Rows
    elif kind is Kind.COLOUR:
        gray = (dataset.pixel_array >> 8).astype(np.uint8)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = np.stack([gray, 255 - gray, gray // 2], axis=2).tobytes()  # no gray in disguise
        dataset["PixelData"].VR = "OB"
    return dataset
