"""What a draft brings beside its parts: how it was built, its card, and what the gate wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from wetread_release.digest import folder_digests
from wetread_release.errors import BadDraft
from wetread_release.manifest import GateSummary, Golden

if TYPE_CHECKING:
    from pathlib import Path

GATE, GOLDEN = "gate", "golden.json"


def evidence_files(draft_folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a draft but draft.json and its parts, by its path."""
    found = folder_digests(draft_folder)
    return {path: digest for path, digest in found.items() if path != "draft.json" and not path.startswith("parts/")}


def gate_records(draft_folder: Path, content: str) -> tuple[GateSummary, ...]:
    """Give the gate's records of a draft; `content`: the draft's content digest now.

    Raises:
        BadDraft: a record cannot be read, or is one of other contents: the draft was changed after its gate.
    """
    records = []
    for path in sorted((draft_folder / GATE).glob("*.json")):
        if path.name == GOLDEN:
            continue
        try:
            document = json.loads(path.read_bytes())
            recorded = document["content"]
            records.append(_SUMMARY.validate_python(document["summary"]))
        except (ValidationError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadDraft(f"{path} is no record of the gate: {error!r}") from error
        if recorded != content:
            raise BadDraft(f"{path}: the draft was changed after its gate: run `wetread release gate` again")
    return tuple(records)


def golden_films(draft_folder: Path) -> Golden | None:
    """Give the gate's golden films and answers; None when the gate was not run. BadDraft: they cannot be read."""
    path = draft_folder / GATE / GOLDEN
    try:
        return _GOLDEN.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError) as error:
        raise BadDraft(f"{path}: {error}") from error


_SUMMARY = TypeAdapter(GateSummary)
_GOLDEN = TypeAdapter(Golden)
