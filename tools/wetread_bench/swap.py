"""The benchmark of the swap: releases come, are promoted and go while films are read without a pause."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_release.checkout import SHIPPED_RELEASE, shipped_pipeline

from wetread_bench import swap_figures as count
from wetread_bench.document import Document
from wetread_bench.inputs import FilmInputs, prepare
from wetread_bench.soak import memory_mib
from wetread_bench.swap_drafts import PIPELINE, Kind, plan_kinds
from wetread_bench.swap_expected import Ledger
from wetread_bench.swap_figures import Request, Window
from wetread_bench.swap_generators import Generators
from wetread_bench.swap_prepare import Prepared, prepare_drafts
from wetread_bench.swap_site import LoadLog, Operator, Step

Tell = Callable[[str], None]
FULL_CYCLES = 20
LIGHT, FULL = 0.4, 0.7
"""Shares of the capacity that films are sent at: during a publish, and around a promote and a rollback."""
DRAIN_S = 10.0
"""After a cycle: a candidate arm answers on for 5 s, then what nobody needs is unloaded, which takes 2 s."""


@dataclass(frozen=True)
class SwapPlan:
    """How many cycles, and how long everything takes."""

    cycles: int = FULL_CYCLES
    films: int = 16
    capacity_s: float = 10.0
    quiet_s: float = 6.0
    """Of the quiet window before each publish and before each promote."""
    settle_s: float = 1.5
    """After each change of the rate, and between a promote and its rollback."""
    memory_samples: int = 5
    load: float = 1.0
    """Of the shares above: less where other work shares the machine."""

    @property
    def is_full(self) -> bool:
        """Whether its figures may be published."""
        return self.cycles >= FULL_CYCLES and self.quiet_s >= 5 and self.load == 1.0


@dataclass
class Trail:
    """What happened, in order."""

    windows: list[Window] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Steps that did not go as they must."""
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """MiB by process, `before` and `after`, both with the same number of releases loaded."""


@dataclass(frozen=True)
class SwapResult:
    """What is written down, and whether the swaps did what they must."""

    document: Document
    faults: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether no request failed, every answer was its release's, and every step went as it must."""
        found = self.document.figures
        return not self.faults and not found["failed"] and not found["unattributed"]


class _Run:
    """The server under load, and the operator who changes its releases."""

    def __init__(
        self, plan: SwapPlan, server: EmbeddedTriton, operator: Operator, generators: Generators, tell: Tell
    ) -> None:
        self._plan, self._server, self._operator = plan, server, operator
        self._generators, self._tell = generators, tell
        self.trail = Trail()
        self.ledger = Ledger()

    def go(self, prepared: Prepared) -> None:
        """Go through all cycles."""
        self.ledger.enter(SHIPPED_RELEASE, prepared.shipped)
        self._generators.begin(LIGHT * self._plan.load)
        time.sleep(self._plan.settle_s)
        for cycle, draft in enumerate(prepared.drafts, 1):
            if not self._server.is_running:
                self.trail.faults.append(f"THE SERVER ENDED before cycle {cycle}: {self._server.last_words()[:3]}")
                return
            self._quiet(count.QUIET_LIGHT)
            published = self._publish(cycle, draft.kind, draft.folder)
            if published is None:
                continue
            if draft.answers is None:  # a broken release was let in
                self._operator.withdraw()
                continue
            self.ledger.enter(published, draft.answers)
            self._switch(published)
            if cycle in (1, self._plan.cycles):
                self._weigh("before" if cycle == 1 else "after")

    def _publish(self, cycle: int, kind: Kind, folder: Path) -> int | None:
        """Publish; give the number of the release where it is the candidate now."""
        step = self._operator.publish(folder)
        self.trail.windows.append(Window(count.PUBLISH, step.begin, step.end))
        self._note(cycle, kind, "publish", step)
        if bool(step.error) != kind.is_broken:
            what = "was let in" if kind.is_broken else f"was refused: {step.error}"
            self.trail.faults.append(f"cycle {cycle}: release {step.release} ({kind.value}) {what}")
        shutil.rmtree(folder)
        return None if step.error else step.release

    def _switch(self, release: int) -> None:
        """Promote and roll back at full load; then back to the light one, until nothing is unloaded any more."""
        self._generators.set_share(FULL * self._plan.load)
        time.sleep(self._plan.settle_s + 1.0)
        self._quiet(count.QUIET_FULL)
        for kind, take in ((count.PROMOTE, self._operator.promote), (count.ROLLBACK, self._operator.rollback)):
            step = take()
            self.trail.windows.append(Window.around(kind, step.begin, step.end))
            self._note(0, None, kind, step)
            wanted = release if kind == count.PROMOTE else SHIPPED_RELEASE
            if step.release != wanted:
                self.trail.faults.append(f"{kind} of release {release}: release {step.release} is stable")
            time.sleep(max(self._plan.settle_s, count.MARGIN_S))
        self._generators.set_share(LIGHT * self._plan.load)
        ended = time.monotonic()
        time.sleep(DRAIN_S)
        self.trail.windows.append(Window(count.RETIRE, ended, time.monotonic()))

    def _quiet(self, kind: str) -> None:
        begun = time.monotonic()
        time.sleep(self._plan.quiet_s)
        self.trail.windows.append(Window(kind, begun, time.monotonic()))

    def _weigh(self, when: str) -> None:
        """Take the server's memory: the sample in the middle of some, under the light load."""
        samples = []
        for _ in range(self._plan.memory_samples):
            samples.append(memory_mib(self._server))
            time.sleep(0.3)
        samples.sort(key=lambda sample: sum(sample.values()))
        self.trail.memory[when] = samples[len(samples) // 2]

    def _note(self, cycle: int, kind: Kind | None, step: str, done: Step) -> None:
        said = {"cycle": cycle, "kind": kind.value} if kind else {}
        seconds = round(done.end - done.begin, 3)
        self.trail.steps.append(
            {**said, "step": step, "release": done.release, "seconds": seconds, "refused": done.error[:400]}
        )
        what = f"cycle {cycle}: {step} {kind.value}" if kind else f"   {step}"
        self._tell(f"{what}, release {done.release}, {seconds:.2f} s {done.error[:160]}")


def bench_swap(checkout: Path, output: Path, plan: SwapPlan, command: str, tell: Tell) -> SwapResult:
    """Run it; the site, its drafts and the served copy are in a temporary folder and go with it."""
    load_before = round(os.getloadavg()[0], 2)
    inputs = prepare(output / "inputs", checkout, plan.films)
    with tempfile.TemporaryDirectory(prefix="wetread-swap-") as name:
        folder = Path(name)
        films = [Path(file).read_bytes() for file in inputs.files("raw")]
        source = shipped_pipeline(checkout, PIPELINE)
        prepared = prepare_drafts(source, plan_kinds(plan.cycles), folder / "drafts", films, tell)
        log = LoadLog()
        config = ServerConfig.on_free_ports(
            root=checkout, store=folder / "state" / "served", state=folder / "state", on_log=log
        )
        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedTriton(config))
            generators = stack.enter_context(Generators(server, inputs.files("raw")))
            capacity = generators.measure(plan.capacity_s)
            tell(f"capacity: {capacity} films/s")
            run = _Run(plan, server, Operator(folder / "state", checkout, log), generators, tell)
            run.go(prepared)
            requests = [Request.of(row) for row in generators.end()]
            heals = [str(heal) for heal in server.heals]
    around = {"capacity_per_s": capacity, "load_average_before": load_before}
    return _result(checkout, plan, command, run, requests, inputs, around, heals)


def _result(
    checkout: Path,
    plan: SwapPlan,
    command: str,
    run: _Run,
    requests: list[Request],
    inputs: FilmInputs,
    around: dict[str, object],
    heals: list[str],
) -> SwapResult:
    trail = run.trail
    wrong = count.strangers(requests, run.ledger)
    memory = {when: sum(sample.values()) for when, sample in trail.memory.items()}
    figures = count.figures(requests, trail.windows, wrong, memory)
    faults = tuple(trail.faults) + tuple(f"healed: {heal}" for heal in heals)
    latency = {
        kind: {way: asdict(seen) for way, seen in ways.items()}
        for kind, ways in count.by_kind(requests, trail.windows).items()
    }
    document = Document.of(
        checkout,
        "swap",
        command,
        complete=plan.is_full and not faults and not figures["failed"] and not figures["unattributed"],
        inputs={"films": inputs.source, "count": inputs.count, "mean_bytes": inputs.mean_bytes["raw"]},
        settings=asdict(plan),
        measurements={
            **around,
            "latency_ms": latency,
            "steps": trail.steps,
            "memory_mib": trail.memory,
            "answers_by_release": count.releases(requests),
            "errors": count.errors(requests),
            "unattributed": [asdict(each) for each in wrong[:20]],
        },
        figures=figures,
        remarks=faults,
    )
    return SwapResult(document, faults)
