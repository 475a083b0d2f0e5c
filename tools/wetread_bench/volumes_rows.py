"""What the bench of volumes measures: times by way, taken in turns, and whether the answers are the same."""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from wetread_bench.results import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS, ONE_THREAD = "wetread", "wetread, one thread"


@dataclass(frozen=True)
class Way:
    """One way of doing a step."""

    name: str
    work: Callable[[], object]
    rounds: int | None = None
    """This many instead of the bench's: fewer of the slow ones, more of those whose spread is as large as they are."""
    own_clock: bool = False
    """`work` gives the seconds that it took, elsewhere."""


@dataclass(frozen=True)
class Row:
    """One way of one step on one input."""

    step: str
    input: str
    way: str
    threads: int
    ms: Spread
    """Over its rounds."""
    rounds: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is found by."""
        return self.step, self.input, self.way, self.threads


@dataclass(frozen=True)
class Check:
    """Whether two ways gave the same: a fast wrong answer is an error."""

    step: str
    input: str
    against: str
    what: str
    """What `value` is, with its unit."""
    value: float
    most: float
    """More in either direction is an error."""

    @property
    def is_right(self) -> bool:
        """Whether it holds; of a value that is no number, it does not."""
        return abs(self.value) <= self.most


@dataclass(frozen=True)
class Findings:
    """What a step brought."""

    rows: tuple[Row, ...] = ()
    checks: tuple[Check, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What is neither: bytes, standard deviations."""

    def __add__(self, other: Self) -> Self:
        return type(self)(self.rows + other.rows, self.checks + other.checks, {**self.numbers, **other.numbers})

    def to_json(self) -> dict[str, Any]:
        """For the line between two processes, and for the document."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        rows = (Row(**{**row, "ms": Spread(**row["ms"])}) for row in document["rows"])
        return cls(tuple(rows), tuple(Check(**check) for check in document["checks"]), dict(document["numbers"]))


def in_turns(
    step: str,
    name: str,
    threads: int,
    ways: Sequence[Way],
    rounds: int,
    look: Callable[[str, object], None] | None = None,
) -> tuple[Row, ...]:
    """Time the ways in turns, A B C A B C, so that what else the machine does falls on all alike.

    `look` is shown what each way has made in the first round, after its clock has stopped.
    """
    seen: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(max(way.rounds or rounds for way in ways)):
        for way in ways:
            if number < (way.rounds or rounds):
                gc.collect()
                begun = time.perf_counter()
                made = way.work()
                taken = float(made) if way.own_clock and isinstance(made, float) else time.perf_counter() - begun
                seen[way.name].append(taken * 1e3)
                if look is not None and number == 0:
                    look(way.name, made)
                del made
    return tuple(Row(step, name, way, threads, Spread.over(taken), len(taken)) for way, taken in seen.items())
