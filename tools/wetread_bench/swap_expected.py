"""What each release must answer, computed without a server, and whether an answer is that of the release it names."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_bench.in_process import ONNX_BACKEND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_release.draft import Draft
    from wetread_release.triton_config import ModelConfig

TOLERANCE = 2e-3
"""On the log odds: engines, batches and threads differ by less than a tenth of it."""
APART = 5 * TOLERANCE
"""By at least so much the answers of two releases to the same film differ, or nobody could tell them apart."""
_STEP, _STEPS = 0.02, 101
Odds = tuple[float, ...]
"""Of the first finding, film by film."""


class Alike(Exception):
    """Two releases answer a film alike: an answer could not be attributed."""


@dataclass(frozen=True)
class Answers:
    """To some films, in order, one row each: the findings' probabilities, and whether they reach their thresholds."""

    probabilities: tuple[tuple[float, ...], ...]
    positive: tuple[tuple[bool, ...], ...]

    @property
    def odds(self) -> Odds:
        """Give the log odds of the first finding."""
        return tuple(log_odds(film[0]) for film in self.probabilities)


class Calculator:
    """Reads the same films with one draft after the other; images are made once a recipe."""

    def __init__(self, checkout: Path, films: Sequence[bytes], *, declared_film: bool = False) -> None:
        self._checkout, self._films, self._declared = checkout, films, declared_film
        self._images: dict[str, list[tuple[Any, bytes]]] = {}

    def answers(self, draft: Draft, folder: Path) -> Answers:
        """Give what a draft in `folder` answers; its parts are those of the server, one film at a time."""
        from wetread_postprocess import Postprocessor  # noqa: PLC0415 - brings OpenCV

        parts = {part.role: folder / "parts" / part.folder for part in draft.parts}
        engine = self._engine(draft.part("classifier").config, parts["classifier"])
        postprocessor = Postprocessor.load(parts["postprocess"])
        readings = []
        for image, geometry in self._preprocessed(parts["preprocess"]):
            logits = engine.run({"IMAGE": image[None]}, ("LOGITS",))["LOGITS"][0]
            readings.append(postprocessor.read(logits, None, None, geometry))
        return Answers(
            tuple(tuple(map(float, reading.probability)) for reading in readings),
            tuple(tuple(map(bool, reading.positive)) for reading in readings),
        )

    def _preprocessed(self, folder: Path) -> list[tuple[Any, bytes]]:
        from wetread_preprocess import FilmOptions, FilmPreprocessor  # noqa: PLC0415 - brings OpenCV

        recipe = (folder / "recipe.json").read_text()
        if recipe not in self._images:
            preprocessor = FilmPreprocessor.load(folder)
            options = FilmOptions(declared_film=self._declared, any_body_part=self._declared)
            films = [preprocessor.read(np.frombuffer(film, np.uint8), options) for film in self._films]
            self._images[recipe] = [(film.image, film.geometry) for film in films]
        return self._images[recipe]

    def _engine(self, config: ModelConfig, folder: Path) -> Any:
        """Load the model as the server's stand-in backend does, which is a folder and no installed package."""
        from wetread_release.agent.idle import as_triton_json  # noqa: PLC0415 - needed here alone

        path = str(self._checkout / ONNX_BACKEND)
        if path not in sys.path:
            sys.path.append(path)
        from wetread_onnx import ModelSpec, load_engine  # noqa: PLC0415 - as above

        spec = ModelSpec.from_json(json.dumps(as_triton_json(config)))
        return load_engine(folder / spec.model_filename, spec)


class Ledger:
    """The log odds that each release must answer with."""

    def __init__(self) -> None:
        self._by_release: dict[int, Odds] = {}
        self._known: list[Odds] = []

    def room(self, odds: Odds, temperature: float) -> float:
        """Choose what to add to the logits behind `odds`, so that all that was noted stays apart; then note them.

        Raises:
            Alike: nothing within one unit does.
        """
        for step in range(_STEPS):
            shift = round(_STEP * ((step + 1) // 2) * (1 if step % 2 else -1), 3)
            moved = tuple(value + shift / temperature for value in odds)
            if all(_apart(moved, other) >= APART for other in self._known):
                self._known.append(moved)
                return shift
        raise Alike("there is no room for one more release whose answers nobody could mistake for another's")

    def enter(self, release: int, answers: Answers) -> None:
        """Enter a release's answers under its number.

        Raises:
            Alike: another release answers one of the films with the same number.
        """
        odds = answers.odds
        for other, theirs in self._by_release.items():
            if _apart(odds, theirs) < APART / 2:
                raise Alike(f"releases {release} and {other} answer a film alike")
        self._by_release[release] = odds

    def is_of(self, release: int, film: int, probability: float) -> bool:
        """Tell whether this is what the release answers to the film."""
        known = self._by_release.get(release)
        return known is not None and abs(log_odds(probability) - known[film]) <= TOLERANCE


def _apart(one: Odds, other: Odds) -> float:
    return min(abs(this - that) for this, that in zip(one, other, strict=True))


def log_odds(probability: float) -> float:
    """Give ln(p / (1 - p)); the far ends stand at 17, where float32 has no more digits."""
    inside = min(max(probability, 4e-8), 1 - 4e-8)
    return math.log(inside / (1 - inside))
