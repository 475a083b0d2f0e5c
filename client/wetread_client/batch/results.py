"""What is kept of a batch: a line for each file or series, and from them what need not be read again."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wetread_client.batch.headers import NO_HEADER, Header
from wetread_client.read_output import error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread_client.batch.out import Out
    from wetread_client.errors import WetreadError
    from wetread_client.reading import Reading

RESULTS = "results-"
READ, REFUSED, FAILED, SKIPPED = "read", "refused", "failed", "skipped"
"""Read; refused by the pipeline, for good; failed, to be tried again with `--retry-failed`; nothing to be read."""


@dataclass(frozen=True, slots=True)
class Named:
    """Which film or series of the archive: the entry it is in, how many that has, and its files' addresses."""

    entry: str
    works: int
    files: tuple[str, ...]
    is_series: bool = False
    modality: str = ""
    header: Header = NO_HEADER

    @property
    def key(self) -> str:
        """Tell it from every other one; a series that has got more files is another."""
        if len(self.files) == 1:
            return self.files[0]
        return "series " + hashlib.sha256("\0".join(self.files).encode()).hexdigest()[:32]


def read_line(named: Named, pipeline: str, reading: Reading) -> str:
    """Give the line of one that was read."""
    segments = zip(reading.segments, reading.segment_ml, strict=False)
    said = {
        "pipeline": pipeline,
        "release": reading.release,
        "findings": [
            {"label": f.label, "probability": f.probability, "positive": f.positive} for f in reading.findings
        ],
        "novelty": reading.novelty,
        "segments": [{"label": segment.label, "ml": round(ml, 3)} for segment, ml in segments],
        "warnings": list(reading.notes.warnings),
        "left_out": len(reading.notes.left_out),
        "ms": round(reading.ms, 2),
    }
    return _line(named, READ, said)


def error_line(named: Named, outcome: str, pipeline: str | None, error: WetreadError | OSError) -> str:
    """Give the line of one that was refused or failed."""
    code, message = error_of(error)
    return _line(named, outcome, {"pipeline": pipeline, "error": {"code": code, "message": message}})


def skipped_line(entry: str) -> str:
    """Give the line of an entry that holds nothing to be read."""
    return _line(Named(entry, 1, (entry,)), SKIPPED, {})


def _line(named: Named, outcome: str, said: dict[str, Any]) -> str:
    where: dict[str, Any] = {"entry": named.entry, "works": named.works, "key": named.key, "outcome": outcome}
    where |= {"files": len(named.files)} if named.is_series else {"file": named.files[0]}
    uids = {
        "study_uid": named.header.study_uid,
        "series_uid": named.header.series_uid,
        "sop_uid": "" if named.is_series else named.header.sop_uid,
        "modality": named.modality,
    }
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps(where | {name: value for name, value in uids.items() if value} | said | {"at": at})


def digest(text: str) -> bytes:
    """Shorten a key to what is held of it in memory."""
    return hashlib.sha256(text.encode()).digest()[:12]


@dataclass(frozen=True, slots=True)
class Line:
    """What resuming needs of a line."""

    entry: str
    works: int
    key: str
    outcome: str


@dataclass(slots=True)
class Done:
    """What the results' lines say: entries that are whole, and of the others which works are done.

    Of each entry 12 bytes are held, whatever its files are.
    """

    entries: set[bytes] = field(default_factory=set)
    begun: dict[bytes, set[bytes]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def take(self, found: Line) -> None:
        """Take a line in; the first of a work counts."""
        entry, work = digest(found.entry), digest(found.key)
        if entry in self.entries or work in self.begun.get(entry, ()):
            return
        self.outcomes[found.outcome] += 1
        works = self.begun.setdefault(entry, set())
        works.add(work)
        if len(works) >= found.works:
            del self.begun[entry]
            self.entries.add(entry)

    def has_entry(self, entry: str) -> bool:
        """Say whether all of an entry is done."""
        return digest(entry) in self.entries

    def has_work(self, entry: str, key: str) -> bool:
        """Say whether a film or series of an entry is done."""
        return digest(key) in self.begun.get(digest(entry), ())


def parse(line: bytes) -> Line | None:
    """Read a line back, None when it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
        return Line(str(content["entry"]), int(content["works"]), str(content["key"]), str(content["outcome"]))
    except (ValueError, KeyError, TypeError):
        return None


def take_up(out: Out, *, own: str, mine: Callable[[str], bool], retry_failed: bool) -> Done:
    """Read all shares' lines, so that the number of shares may change between runs; those of `mine` entries count.

    `own`: the log of this share's prefix; its broken lines, and with `retry_failed` its failed ones, are dropped from
    it, so that no film has two lines. The caller must have claimed that log, and not opened it yet.
    """
    done = Done()
    for name in out.names(RESULTS):
        drop = False
        for line in out.lines(name):
            found = parse(line)
            again = found is None or (retry_failed and found.outcome == FAILED)
            if again and name.startswith(own):
                drop = True
            elif found is not None and not again and mine(found.entry):
                done.take(found)
        if drop:
            out.put(name, _kept(out, name, retry_failed))
    return done


def _kept(out: Out, name: str, retry_failed: bool) -> Iterator[str]:
    for line in out.lines(name):
        found = parse(line)
        if found is not None and not (retry_failed and found.outcome == FAILED):
            yield line.decode().rstrip("\n")
