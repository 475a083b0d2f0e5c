"""What came of all that was sent, by class and priority, and how late the sender itself was."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

_MS = 1e3
_SHARES = (0.5, 0.95, 0.99)


def quantile(values: list[float], share: float) -> float:
    """Give the smallest value that at least `share` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class Line:
    """One class and priority. Latencies are seconds from the moment at which it should have been sent."""

    latencies_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused_before_body: int = 0
    in_window: int = 0
    """Answers that came before the timetable's end: over its length, the goodput."""

    def told(self) -> dict[str, object]:
        """Give it as JSON has it."""
        p50, p95, p99 = (round(quantile(self.latencies_s, share) * _MS, 1) for share in _SHARES)
        return {
            "answered": len(self.latencies_s),
            "answered_in_window": self.in_window,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "refused": dict(self.refused),
            "refused_before_body": self.refused_before_body,
            "failed": dict(self.failed),
        }


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A study that a door has taken: it must have a result at the end. `is_read`: a pipeline reads it."""

    study_uid: str
    instances: int
    is_read: bool


class Tally:
    """Of one run."""

    def __init__(self) -> None:
        self._lines: defaultdict[tuple[str, str], Line] = defaultdict(Line)
        self._lags_s: list[float] = []
        self.offered = 0
        self.unsent = 0
        """Transactions that were due, and had not left when the run ended."""
        self.acknowledged: list[Acknowledged] = []
        self.lost: list[str] = []

    def line(self, kind: str, priority: str) -> Line:
        """Give the line of a class and a priority (`stat` or `routine`)."""
        return self._lines[kind, priority]

    def left(self, lag_s: float) -> None:
        """Note one that has left, so late after its moment."""
        self._lags_s.append(lag_s)

    def told(self) -> dict[str, object]:
        """Give all of it as JSON has it."""
        lines = {f"{kind} {priority}": line.told() for (kind, priority), line in sorted(self._lines.items())}
        lines |= {f"all {priority}": self._all(priority).told() for priority in ("routine", "stat")}
        latencies = [latency for line in self._lines.values() for latency in line.latencies_s]
        return {
            "offered": self.offered,
            "acknowledged_studies": len(self.acknowledged),
            "lost": len(self.lost),
            "lost_studies": self.lost[:20],
            "failed": sum(sum(line.failed.values()) for line in self._lines.values()),
            "refused": sum(sum(line.refused.values()) for line in self._lines.values()),
            "generator": {
                "unsent": self.unsent,
                "lag_p50_ms": round(quantile(self._lags_s, 0.5) * _MS, 1),
                "lag_p99_ms": round(quantile(self._lags_s, 0.99) * _MS, 1),
                "lag_max_ms": round(max(self._lags_s, default=0.0) * _MS, 1),
            },
            "latency": {f"p{round(100 * share)}_ms": round(quantile(latencies, share) * _MS, 1) for share in _SHARES},
            "lines": lines,
        }

    def _all(self, wanted: str) -> Line:
        whole = Line()
        for (_, priority), line in self._lines.items():
            if priority == wanted:
                whole.latencies_s += line.latencies_s
                whole.refused += line.refused
                whole.failed += line.failed
                whole.in_window += line.in_window
                whole.refused_before_body += line.refused_before_body
        return whole
