"""What the gate leaves in a draft: one record for each engine and device, and the golden answers of all of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from wetread_release.errors import GateFailed
from wetread_release.evidence import GATE, GOLDEN
from wetread_release.evidence import golden_films as read_golden
from wetread_release.golden import golden_of
from wetread_release.manifest import GateSummary, Golden, GoldenRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_release.gate.films import FilmSet
    from wetread_release.gate.judge import Judged
    from wetread_release.gate.lay_out import Side
    from wetread_release.gate.limits import Limits
    from wetread_release.gate.measure import Cost

REPORT = "report.html"


@dataclass(frozen=True)
class Outcome:
    """One run of the gate."""

    summary: GateSummary
    content: str
    """`draft.content_digest` of what was served."""
    draft: Side
    reference: Side | None
    films: FilmSet
    limits: Limits
    judged: Judged
    costs: dict[str, Cost]
    """By side."""
    idle: bool
    """It ran at idle priority: its times are upper ends."""
    remarks: tuple[str, ...]
    golden: GoldenRecord
    earlier: tuple[EarlierRun, ...] = ()


def write_record(folder: Path, outcome: Outcome) -> Path:
    """Write the record of this engine and device into a draft's gate folder, in the place of an earlier one."""
    gate = folder / GATE
    gate.mkdir(exist_ok=True)
    summary = outcome.summary
    path = gate / _record_name(summary.engine, summary.device)
    _replace(path, (json.dumps(_document(outcome), indent=1) + "\n").encode())
    return path


def write_golden(folder: Path, root: Path, content: str, record: GoldenRecord) -> None:
    """Put the golden answers of one engine and device beside those of the others that answered the same films.

    `content`: digest of the draft. Answers of a draft that was changed since are dropped with their records.
    """
    known = read_golden(folder)
    golden = golden_of(root, (record,))
    if known is not None and (known.films, known.film_model) == (golden.films, golden.film_model):
        mine = (record.engine, record.device)
        others = [
            each
            for each in known.records
            if (each.engine, each.device) != mine and _content_of(folder, each) == content
        ]
        golden = golden_of(root, (*others, record))
    _replace(folder / GATE / GOLDEN, _GOLDEN.dump_json(golden, indent=1) + b"\n")


def _content_of(folder: Path, record: GoldenRecord) -> str:
    try:
        document = json.loads((folder / GATE / _record_name(record.engine, record.device)).read_bytes())
        return str(document["content"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class EarlierRun:
    """A run of the gate over the same content, engine and device, whose place another one takes."""

    at: float
    passed: bool
    films: int
    where: str
    synthetic: bool
    failures: tuple[str, ...] = ()


def earlier_runs(folder: Path, content: str, engine: str, device: str) -> tuple[EarlierRun, ...]:
    """Give the runs that a draft of this content had already, the latest last; none where it was changed since."""
    try:
        document = json.loads((folder / GATE / _record_name(engine, device)).read_bytes())
        if document["content"] != content:
            return ()
        summary, films = document["summary"], document["films"]
        last = {"at": summary["at"], "passed": summary["passed"], "failures": summary["failures"]}
        last |= {"films": films["count"], "where": films["from"], "synthetic": films["synthetic"]}
        return _EARLIER.validate_python([*document.get("earlier", ()), last])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def check_not_weaker(earlier: Sequence[EarlierRun], films: FilmSet) -> None:
    """Refuse to put less proof in the place of more: what real films said stands until real films say otherwise.

    Raises:
        GateFailed: the films are synthetic, or fewer than those on which the draft failed.
    """
    real = [run for run in earlier if not run.synthetic]
    if real and films.synthetic:
        raise GateFailed(
            f"this draft was judged over {real[-1].films} real films ({real[-1].where}), and it "
            f"{'passed' if real[-1].passed else 'failed'}: synthetic films say nothing more; name films with --data"
        )
    if real and not real[-1].passed and len(films.films) < real[-1].films:
        raise GateFailed(
            f"this draft failed over {real[-1].films} films ({real[-1].where}): {len(films.films)} films cannot clear "
            "it; judge it on as many at least, or change it"
        )


def drop_records(folder: Path, content: str, engine: str, device: str) -> None:
    """Remove a passed record that is about to be made anew, and those from before the draft was changed.

    A failed one stays until another takes its place.
    """
    for path in (folder / GATE).glob("*.json"):
        if path.name == GOLDEN:
            continue
        try:
            document = json.loads(path.read_bytes())
            is_stale, has_passed = document["content"] != content, document["summary"]["passed"]
        except (ValueError, KeyError, TypeError):
            is_stale = has_passed = True
        if is_stale or (has_passed and path.name == _record_name(engine, device)):
            path.unlink()


def _record_name(engine: str, device: str) -> str:
    return f"{engine}-{device}.json"


def _document(outcome: Outcome) -> dict[str, Any]:
    judged = outcome.judged
    return {
        "content": outcome.content,
        "summary": json.loads(_SUMMARY.dump_json(outcome.summary)),
        "reference": None if outcome.reference is None else _side(outcome.reference),
        "films": {
            "from": outcome.films.where,
            "synthetic": outcome.films.synthetic,
            "count": len(outcome.films.films),
            "patients": sorted(outcome.films.patients),
        },
        "idle_priority": outcome.idle,
        "limits": _json(outcome.limits),
        "remarks": list(outcome.remarks),
        "earlier": _json(outcome.earlier),
        "parity": _json(judged.parity),
        "flips": _json(judged.flips),
        "unread": _json(judged.unread),
        "refused": judged.refused,
        "findings": _json(judged.findings),
        "costs": _json(outcome.costs),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(outcome.summary.at)),
    }


def _side(side: Side) -> dict[str, str]:
    return {"title": side.title, "engine": side.engine, "precision": side.precision}


def _json(value: object) -> Any:
    """Give dataclasses as JSON holds them; infinite and undefined numbers as null."""
    return json.loads(TypeAdapter(object).dump_json(value))


def _replace(path: Path, content: bytes) -> None:
    writing = path.with_name(f".{path.name}.writing")
    writing.write_bytes(content)
    writing.replace(path)


_SUMMARY = TypeAdapter(GateSummary)
_GOLDEN = TypeAdapter(Golden)
_EARLIER = TypeAdapter(tuple[EarlierRun, ...])
