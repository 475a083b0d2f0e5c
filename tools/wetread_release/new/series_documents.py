"""The files of a new pipeline of series: those of the pipeline it is made after, with what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.errors import BadDraft
from wetread_release.new.documents import DEFAULT_THRESHOLD, Json, private_code

if TYPE_CHECKING:
    from wetread_release.new.hints import Scores
    from wetread_release.new.wish import Wish
    from wetread_release.wiring import Network

_COLOURS = ((230, 90, 80), (80, 160, 230), (110, 200, 110), (240, 190, 70), (170, 110, 220), (90, 210, 200))
"""Of segments without one of their own, in turn."""


def recipe(like: Json, wish: Wish) -> Json:
    """Give recipe.json: that of `like`, but for the modalities, the body part and the keys that the wish states."""
    made = dict(like)
    if wish.modalities:
        made["modalities"] = list(wish.modalities)
    if wish.body_part:
        others = made.get("other_body_parts", [])
        assert isinstance(others, list)
        made["body_parts"] = [wish.body_part]
        made["other_body_parts"] = [part for part in others if wish.body_part not in part]
    return made | dict(wish.recipe)


def pipeline(like: Json, wish: Wish, network: Network, scores: Scores | None) -> Json:
    """Give pipeline.json: that of `like` under the wish's name, with the wish's labels where it has some."""
    made = dict(like) | {"pipeline": wish.name}
    made["algorithm"] = {
        "name": wish.name.replace("_", " "),
        "manufacturer": wish.manufacturer or "not stated",
    }
    use = dict(_object(like, "intended_use")) | {"limits": "Not stated: fill in the model card."}
    if wish.modalities:
        use["modalities"] = list(wish.modalities)
    if wish.body_part:
        use["body_part"] = wish.body_part
    if wish.statement or wish.labels:
        use["statement"] = wish.statement or (
            f"A preliminary reading of series ({use['body_part']}), for research and engineering. Not a medical "
            "device, not for clinical use."
        )
    made["intended_use"] = use
    if wish.labels and network == "segmenter":
        made["segments"] = [_segment(like, wish, value, label) for value, label in wish.findings]
    elif wish.labels:
        made["findings"] = [_finding(wish, column, label) for column, label in wish.findings]
    if network == "classifier" and scores:
        made["scores"] = scores
    if wish.novelty is not None:
        made["novelty"] = {"statistics": "novelty.npz", "percentile_99": wish.novelty_99}
    return made


def card(wish: Wish, like: str, volume: str, logits: str) -> str:
    """Give CARD.md, with what the maker has still to write."""
    return f"""# {wish.name.replace("_", " ").capitalize()}

FILL IN: what it finds, in whose series, and that it is not a medical device.

| | |
|---|---|
| made after | {like}: its recipe, but for what recipe.json says |
| input | {volume} |
| output | {logits} |
| labels | {", ".join(wish.labels) or f"those of {like}"} |

## Data

FILL IN: source, licence, number of series and patients, how training and test were kept apart by patient.

## Results on held-out patients

FILL IN: there is no gate for series; what is stated here is yours.

## Limits

FILL IN: who was not among the patients, what it does not know, how it fails.
"""


def _finding(wish: Wish, column: int, label: str) -> Json:
    return {
        "label": label,
        "codes": _codes(wish, label),
        "column": column,
        "threshold": wish.thresholds.get(label, DEFAULT_THRESHOLD),
        "temperature": 1.0,
    }


def _segment(like: Json, wish: Wish, value: int, label: str) -> Json:
    known = like.get("segments", [])
    assert isinstance(known, list)
    if value == 0:
        raise BadDraft(f"--labels begins with {label}: channel 0 is the background; name it with --background")
    return {
        "value": value,
        "label": label,
        "codes": _codes(wish, label),
        "category": known[0]["category"],
        "colour": list(_COLOURS[(value - 1) % len(_COLOURS)]),
    }


def _codes(wish: Wish, label: str) -> list[Json]:
    return [vars(code) for code in wish.codes.get(label, ())] or [private_code(wish.name, label)]


def _object(document: Json, key: str) -> Json:
    value = document.get(key, {})
    assert isinstance(value, dict)
    return value
