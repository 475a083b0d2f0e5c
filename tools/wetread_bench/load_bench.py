"""`wetread bench load`: what one core of server stack reads over its door, at its limit and three times beyond it."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx

from wetread_bench.document import Document
from wetread_bench.load_films import film_maker
from wetread_bench.load_search import P99_LIMIT, Trial, capacity, figures, search
from wetread_bench.load_stack import ONE_CORE, LoadStack, locust, pinned
from wetread_bench.machine import cores
from wetread_bench.processes import busy_s, cpu_use, descendants
from wetread_bench.results import Spread, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Report = Callable[[str], None]

QUIET = 0.1
"""Share of the cores that other processes may take in a result that is published."""
STAT_SHARE = 0.05
OVERLOAD = 3.0
SUSTAINED = 0.8
_AT_ONCE = 6  # under way at all times for the quick estimate
_WARM = 12
_DELIVERED_S = 60.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How long to measure; a full run takes a quarter of an hour and a little more."""

    unloaded: int = 300
    """Films read one at a time, half of them before the search and half after it."""
    estimate_s: float = 8.0
    trial_s: float = 60.0
    trials: int = 5
    sustained_s: float = 600.0
    overload_s: float = 120.0
    overload_age_s: float = 2.0
    """`[intake] overload_age_s` of the gateway that is measured: refused sooner than by default."""
    quick: bool = False


QUICK = LoadPlan(unloaded=60, estimate_s=3.0, trial_s=8.0, trials=2, sustained_s=10.0, overload_s=12.0, quick=True)


class _Refused(RuntimeError):
    """There is too much routine work."""


class Load:
    """One stack under load: the stack on the first core, the generator and the sink on the last."""

    def __init__(self, checkout: Path, stack: LoadStack, plan: LoadPlan, report: Report) -> None:
        self._checkout, self._stack, self._plan, self._report = checkout, stack, plan, report
        self._film = film_maker(checkout)

    def alone(self, count: int) -> list[float]:
        """Read films one at a time over `POST /v1/read`, each when the one before is delivered; their milliseconds."""
        found: list[float] = []
        until = time.monotonic() + _DELIVERED_S
        with httpx.Client(base_url=self._stack.gateway.url, timeout=60.0) as client:
            while len(found) <= count:  # one more: when the first is delivered, what came before is done
                body = self._film()
                began = time.monotonic()
                try:
                    study = self._read(client, body)
                except _Refused:  # there is still work of a trial
                    if began > until:
                        raise
                    time.sleep(_LOOK_S)
                else:
                    found.append((time.monotonic() - began) * 1e3)
                    self._await_delivery(client, study)
        return found[1:]

    def estimate(self) -> float:
        """Films a second with several under way at all times."""
        until = time.monotonic() + self._plan.estimate_s
        counts: list[int] = []

        def read() -> None:
            count = 0
            with httpx.Client(base_url=self._stack.gateway.url, timeout=60.0) as client:
                while time.monotonic() < until:
                    try:
                        self._read(client, self._film())
                    except _Refused:
                        time.sleep(_LOOK_S)
                    else:
                        count += 1
            counts.append(count)

        threads = [threading.Thread(target=read) for _ in range(_AT_ONCE)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(counts) < _AT_ONCE:
            raise RuntimeError("a film of the estimate was not read")
        return sum(counts) / (time.monotonic() - began)

    def trial(self, rate: float, seconds: float) -> Trial:
        """Send at random moments at a rate, and wait until everything has its result."""
        target = self._stack.folder / "trial.json"
        options = {
            **self._stack.options(),
            "WETREAD_LOAD_JSON": str(target),
            "WETREAD_LOAD_SHARES": "read=1",
            "WETREAD_LOAD_RATE": str(rate),
            "WETREAD_LOAD_SECONDS": str(seconds),
            "WETREAD_LOAD_STAT": str(STAT_SHARE),
            "WETREAD_LOAD_BURST_SHARE": "0",
            "WETREAD_LOAD_AT_ONCE": "2048",
        }
        target.unlink(missing_ok=True)
        locust(self._checkout, options, quiet=True).wait()
        found = Trial.of(rate, seconds, json.loads(target.read_text()))
        self._make_room()
        self._report(
            f"{rate:6.2f}/s for {seconds:.0f} s: {found.goodput_per_s:.2f}/s, p99 {found.p99_ms:.0f} ms, "
            f"STAT {found.stat_p99_ms:.0f} ms, refused {found.refused} ({found.refused_before_body} before the body), "
            f"failed {found.failed}, lost {found.lost}, generator late {found.generator_lag_p99_ms:.0f} ms"
        )
        return found

    def _read(self, client: httpx.Client, body: bytes) -> str:
        """Read a film; its study."""
        answer = client.post("/v1/read", content=body, headers={"Content-Type": "application/dicom"})
        if answer.status_code == 429:
            raise _Refused
        if answer.status_code != 200:
            raise RuntimeError(f"a film was not read: {answer.status_code} {answer.text[:300]}")
        return str(answer.json()["study_uid"])

    def _await_delivery(self, client: httpx.Client, study_uid: str) -> None:
        until = time.monotonic() + _DELIVERED_S
        while any(work["state"] != "finished" for work in client.get(f"/v1/studies/{study_uid}").json()["works"]):
            if time.monotonic() > until:
                raise RuntimeError(f"a result was not delivered within {_DELIVERED_S:g} s")
            time.sleep(_LOOK_S)

    def _make_room(self) -> None:
        """Remove the films that are done: the spool keeps them for a day, and this bench makes ten gigabytes."""
        for film in (self._stack.gateway.state / "spool" / "done").glob("*/*.dcm"):
            film.unlink()


def bench_load(checkout: Path, plan: LoadPlan, command: str, report: Report) -> Document:
    """Measure all of it in one run."""
    here = cores()
    others = _Others()
    with (
        pinned(here[-1]),
        LoadStack(checkout, overload_age_s=plan.overload_age_s, core=here[0]) as stack,
        others.watched(),
    ):
        load = Load(checkout, stack, plan, report)
        load.alone(_WARM)
        before = load.alone(plan.unloaded // 2)
        estimate = load.estimate()
        p99_ms = quantile(before, 0.99)
        report(f"alone: p50 {quantile(before, 0.5):.1f} ms, p99 {p99_ms:.1f} ms; {_AT_ONCE} at once: {estimate:.1f}/s")
        trials = search(lambda rate: load.trial(rate, plan.trial_s), p99_ms, estimate, plan.trials)
        most = capacity(trials, p99_ms)
        report(f"capacity: {most:.2f}/s")
        base = most or estimate  # what came of an overload is worth knowing even so
        at_80 = load.trial(round(SUSTAINED * base, 2), plan.sustained_s)
        at_300 = load.trial(round(OVERLOAD * base, 2), plan.overload_s)
        after = load.alone(plan.unloaded // 2)
    busy = others.share(len(here))
    whole = most > 0 and all(trial.is_whole for trial in (*trials, at_80, at_300))
    return Document.of(
        checkout,
        "load",
        command,
        complete=not plan.quick and whole and busy <= QUIET and len(here) > 1,
        inputs={"films": "synthetic, 512x512 of 16 bits, every one its own", "door": "POST /v1/read"},
        settings={
            **asdict(plan),
            "stat_share": STAT_SHARE,
            "concurrency": ONE_CORE,
            "server_core": here[0],
            "generator_core": here[-1],
        },
        measurements={
            "unloaded": {"before": _told(before), "after": _told(after)},
            "unloaded_p99_ms": round(p99_ms, 2),
            "at_once_per_s": round(estimate, 2),
            "trials": [asdict(trial) | {"held": trial.is_held(p99_ms)} for trial in trials],
            "at_80": asdict(at_80),
            "at_300": asdict(at_300),
            "other_cpu_share": busy,
        },
        figures=figures(most, p99_ms, at_80, at_300, trials),
        remarks=_remarks(busy, here, most),
    )


def _told(latencies_ms: list[float]) -> dict[str, Any]:
    """Give the quantiles, and how far the p50 of five parts lie apart."""
    fifth = max(1, len(latencies_ms) // 5)
    parts = [latencies_ms[at : at + fifth] for at in range(0, fifth * 5, fifth)]
    spread = Spread.over(statistics.median(part) for part in parts if part)
    return {
        "films": len(latencies_ms),
        "p50_ms": round(quantile(latencies_ms, 0.5), 2),
        "p99_ms": round(quantile(latencies_ms, 0.99), 2),
        "max_ms": round(max(latencies_ms), 2),
        "p50_of_fifths_ms": asdict(spread),
    }


def _remarks(busy: float, here: list[int], most: float) -> tuple[str, ...]:
    found = []
    if busy > QUIET:
        found.append(f"a busy machine: other processes took {busy:.0%} of the cores")
    if len(here) < 2:
        found.append("one core: the generator takes the server's")
    if not most:
        found.append(f"no rate was held at {P99_LIMIT:g} times the unloaded p99: 80 and 300 % are of the estimate")
    return tuple(found)


class _Others:
    """Counts what processes other than the bench's own take. Those that have ended meanwhile count by their parent."""

    def __init__(self) -> None:
        self._other_s, self._wall_s = 0.0, 1e-9

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count meanwhile."""
        before = _accounts()
        yield
        wall_s, busy, ours = (late - early for late, early in zip(_accounts(), before, strict=True))
        self._wall_s, self._other_s = wall_s, max(0.0, busy - ours)

    def share(self, count: int) -> float:
        """Give their share of all cores' time."""
        return round(self._other_s / (self._wall_s * count), 4)


def _accounts() -> tuple[float, float, float]:
    ours = cpu_use({os.getpid(), *descendants(os.getpid())})
    ended = os.times()  # locust's runs
    return time.monotonic(), busy_s(), sum(use.total_s for use in ours.values()) + ended[2] + ended[3]
