"""Makes the drafts of a swap benchmark before anything is served, and computes what each must answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from wetread_release.device import this_device
from wetread_release.evidence import GATE, GOLDEN
from wetread_release.golden import golden_films, golden_of
from wetread_release.manifest import Golden, GoldenRecord

from wetread_bench.swap_drafts import Kind, make, shift
from wetread_bench.swap_expected import Answers, Calculator, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wetread_release.checkout import Shipped
    from wetread_release.draft import Draft


@dataclass(frozen=True)
class PreparedDraft:
    """A draft to publish."""

    kind: Kind
    folder: Path
    answers: Answers | None
    """To the films of the benchmark; None: it is broken, and nobody may ever see an answer of it."""


@dataclass(frozen=True)
class Prepared:
    """All that is needed before the server starts."""

    shipped: Answers
    """Of release 1."""
    drafts: tuple[PreparedDraft, ...]


def prepare_drafts(
    shipped: Shipped, kinds: Sequence[Kind], folder: Path, films: Sequence[bytes], tell: Callable[[str], None]
) -> Prepared:
    """Make one draft a kind, each answering with numbers of its own.

    Args:
        shipped: What release 1 is, and every draft is derived from.
        kinds: In order of the cycles.
        folder: Of the drafts.
        films: Of the benchmark, DICOM files.
        tell: Of the progress.
    """
    maker = _Maker(shipped, films)
    original = shipped.lay_out(folder / "shipped")
    answers = maker.begin(original, folder / "shipped")
    drafts = []
    for cycle, kind in enumerate(kinds, 1):
        tell(f"making release {cycle} of {len(kinds)}: {kind.value}")
        drafts.append(maker.prepare(kind, folder / f"{cycle:02}"))
    return Prepared(answers, tuple(drafts))


class _Maker:
    def __init__(self, shipped: Shipped, films: Sequence[bytes]) -> None:
        self._shipped = shipped
        self._films = Calculator(shipped.root, films)
        self._golden = Calculator(shipped.root, golden_films(shipped.root), declared_film=True)
        self._ledger = Ledger()
        self._shipped_golden = Answers((), ())

    def begin(self, draft: Draft, folder: Path) -> Answers:
        """Note what release 1 answers."""
        answers = self._films.answers(draft, folder)
        self._ledger.room(answers.odds, 1.0)
        self._shipped_golden = self._golden.answers(draft, folder)
        return answers

    def prepare(self, kind: Kind, folder: Path) -> PreparedDraft:
        draft = make(self._shipped, kind, folder)
        if kind.is_broken and kind is not Kind.WRONG_GOLDEN:  # it was broken after its gate
            self._record(folder, self._shipped_golden)
            return PreparedDraft(kind, folder, None)
        before = self._films.answers(draft, folder)
        shift(draft, folder, self._ledger.room(before.odds, _temperature(draft, folder)))
        golden = self._golden.answers(draft, folder)
        if kind is Kind.WRONG_GOLDEN:
            golden = replace(golden, probabilities=tuple((1 - film[0],) for film in golden.probabilities))
        self._record(folder, golden)
        return PreparedDraft(kind, folder, None if kind.is_broken else self._films.answers(draft, folder))

    def _record(self, folder: Path, answers: Answers) -> None:
        """Write what the gate would: agents compare the golden films with it."""
        record = GoldenRecord("onnxruntime", this_device(), answers.probabilities, answers.positive)
        (folder / GATE).mkdir()
        (folder / GATE / GOLDEN).write_bytes(_GOLDEN.dump_json(golden_of(self._shipped.root, [record])))


def _temperature(draft: Draft, folder: Path) -> float:
    document = json.loads((folder / "parts" / draft.part("postprocess").folder / "pipeline.json").read_text())
    return float(document["findings"][0]["temperature"])


_GOLDEN = TypeAdapter(Golden)
