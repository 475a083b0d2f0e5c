"""The report of a gate: one HTML file with nothing outside it, that shows the films that flipped."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from wetread_client import WetreadError

from wetread_release.gate.verdict import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from wetread_client import Reading

    from wetread_release.gate.judge import Accuracy, FindingFigures, Flip
    from wetread_release.gate.lay_out import Side
    from wetread_release.gate.measure import Cost
    from wetread_release.gate.record import Outcome
    from wetread_release.gate.server import GateServer

SHOWN = 24
"""Flipped films with pictures; all are listed."""
_SIDE = 320  # pixels


@dataclass(frozen=True)
class FlipPictures:
    """A flipped film as each side shows it, with its heatmap where it is positive: data URIs of PNG files."""

    draft: str
    reference: str


def picture_flips(server: GateServer, outcome: Outcome) -> dict[str, FlipPictures]:
    """Let both sides read the first flipped films once more and draw them, by the films' names.

    A film whose pixels no decoder at hand reads has no pictures.
    """
    from wetread_client.overlay import CannotDraw  # noqa: PLC0415 - Pillow and pydicom, only for flips

    films = {film.name: film for film in outcome.films.films}
    found: dict[str, FlipPictures] = {}
    if outcome.reference is None:
        return found
    for name in list(dict.fromkeys(flip.film for flip in outcome.judged.flips))[:SHOWN]:
        try:
            content = films[name].load()
            new = server.read(outcome.draft, content, heatmap=True)
            old = server.read(outcome.reference, content, heatmap=True)
            found[name] = FlipPictures(_picture(content, new), _picture(content, old))
        except (WetreadError, CannotDraw, OSError):
            continue
    return found


def write_report(path: Path, outcome: Outcome, pictures: dict[str, FlipPictures]) -> None:
    """Write the report; OSError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(outcome, pictures)), encoding="utf-8")


def _picture(film: bytes, reading: Reading) -> str:
    """Draw a film with its heatmap, without a caption, as a data URI."""
    from wetread_client.film_pixels import film_pixels  # noqa: PLC0415 - as above
    from wetread_client.overlay import LONGEST_SIDE, draw  # noqa: PLC0415

    pixels = film_pixels(film)
    picture = draw(pixels, replace(reading, pipeline=""))
    scale = LONGEST_SIDE / max(pixels.shape)
    high, wide = (max(1, round(side * scale)) for side in pixels.shape)
    left = (picture.width - wide) // 2  # a wide caption widens the picture to both sides
    picture = picture.crop((left, 0, left + wide, high))
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _page(outcome: Outcome, pictures: dict[str, FlipPictures]) -> Iterator[str]:
    summary, films = outcome.summary, outcome.films
    verdict = "passed" if summary.passed else "FAILED"
    title = f"Gate of {outcome.draft.pipeline}: {verdict}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    yield f'<h1 class="{verdict.lower()}">{escape(title)}</h1>'
    reference = outcome.reference
    against = "no reference" if reference is None else f"{reference.title} ({_engine(reference)})"
    yield (
        f"<p>{escape(_engine(outcome.draft))} on {escape(summary.device)}, against {escape(against)}, over "
        f"{len(films.films)} films ({escape(films.where)}). Not for clinical use.</p>"
    )
    yield from (f'<p class="failed">{escape(failure)}</p>' for failure in summary.failures)
    yield from (f"<p>{escape(remark)}.</p>" for remark in outcome.remarks)
    for run in outcome.earlier:
        said = "passed" if run.passed else "FAILED"
        yield f"<p>Judged before, over {run.films} films ({escape(run.where)}): {said}.</p>"
    yield _table(("figure", "value", "what it is"), _figures(outcome))
    if outcome.judged.findings:
        yield "<h2>Accuracy</h2>"
        yield _table(("finding", "", "AUC [95 %]", "sensitivity", "specificity", "ECE", "Brier"), _accuracy(outcome))
        yield "".join(f"<p>{escape(_difference(each))}</p>" for each in outcome.judged.findings if each.difference)
    yield "<h2>Cost in Triton</h2>"
    if outcome.idle:
        yield "<p>Measured at idle priority: other work on the machine lengthens times, and both sides' alike.</p>"
    yield _table(
        ("side", "one film p50 ms", "p99 ms", "films/s", "rows", "network, full batch, ms", "memory MiB"),
        ((name, *_cost(cost)) for name, cost in outcome.costs.items()),
    )
    flipped = len({flip.film for flip in outcome.judged.flips})
    yield f"<h2>Flipped films: {flipped}</h2>"
    if flipped > SHOWN:
        yield f"<p>The first {SHOWN} are shown; all are listed.</p>"
    yield from (_flip(flip, pictures.get(flip.film)) for flip in outcome.judged.flips)
    yield f"<p>{'' if outcome.judged.flips else 'None.'}</p></html>"


def _engine(side: Side) -> str:
    return f"{side.engine} {side.precision}"


def _figures(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    for name, value in outcome.summary.figures.items():
        yield name, f"{value:.4g}", FIGURES.get(name, "")


def _accuracy(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for each in outcome.judged.findings:
        yield (f"{each.label} ({each.positives} of {each.films})", "draft", *_row(each.draft))
        if each.reference is not None:
            yield ("", "reference", *_row(each.reference))


def _row(accuracy: Accuracy) -> tuple[str, ...]:
    rates, calibration = accuracy.rates, accuracy.calibration
    numbers = (rates.sensitivity, rates.specificity, calibration.expected, calibration.brier)
    return (str(accuracy.auc), *(f"{number:.4f}" for number in numbers))


def _difference(each: FindingFigures) -> str:
    assert each.difference is not None
    return (
        f"{each.label}: AUC of the draft less the reference's {each.difference.difference} (patients drawn with "
        f"replacement, p = {_p(each.difference.p)}; DeLong's p = {_p(each.delong_p)})"
    )


def _p(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}" if value >= 0.001 else "below 0.001"


def _cost(cost: Cost) -> tuple[str, ...]:
    values = (cost.p50_ms, cost.p99_ms, cost.films_per_s, cost.batch, cost.batch_ms, cost.memory_mib)
    return tuple("not known" if math.isnan(value) else f"{value:.4g}" for value in values)


def _flip(flip: Flip, pictures: FlipPictures | None) -> str:
    truth = "" if flip.truth is None else f", labelled {'positive' if flip.truth else 'negative'}"
    way = "negative to positive" if flip.to_positive else "positive to negative"
    old = _figure("reference", flip.reference, pictures.reference if pictures else "")
    new = _figure("draft", flip.draft, pictures.draft if pictures else "")
    return f"<section><h3>{escape(f'{flip.film}: {flip.finding} from {way}{truth}')}</h3>{old}{new}</section>"


def _figure(side: str, probability: float, uri: str) -> str:
    image = f'<img src="{uri}" alt="the film as the {side} reads it">' if uri else ""
    return f"<figure>{image}<figcaption>{side}: {probability:.4f}</figcaption></figure>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def cells(tag: str, values: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values) + "</tr>"

    return "<table>" + cells("th", head) + "".join(cells("td", row) for row in rows) + "</table>"


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1e24 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem; text-align: left }
tr { border-bottom: 1px solid #d5d9e0 } .failed { color: #a8121f } .passed { color: #14673a }
section { break-inside: avoid; margin: 1.5rem 0 } figure { display: inline-block; margin: 0 1rem 0 0 }
img { max-width: 320px } h3 { font-size: 1rem; margin: .4rem 0 }
"""
