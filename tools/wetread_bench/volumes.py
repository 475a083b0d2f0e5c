"""Series to volumes against scipy, SimpleITK, torch, MONAI and scikit-image: time, agreement and memory in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wetread_bench.document import Document
from wetread_bench.machine import cores
from wetread_bench.volumes_figures import REQUIRED, figures
from wetread_bench.volumes_inputs import SHAPES, prepare_series
from wetread_bench.volumes_monai_site import NoMonai, make_monai, monai_versions
from wetread_bench.volumes_rows import Findings
from wetread_bench.volumes_worker import POOLS
from wetread_bench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wetread_bench.volumes_inputs import SeriesInput, Shape

    Report = Callable[[str], None]

STEPS = ("resample", "series", "bias_field", "denoise", "costs", "memory", "cold_start")
_BUSY_LOAD = 0.5
"""Load average above which the machine does other things."""
_PACKAGES = ("numba", "llvmlite", "SimpleITK", "scikit-image", "PyWavelets", "torch")
_MEMORY_WAYS = ("wetread", "SimpleITK")


@dataclass(frozen=True)
class VolumesPlan:
    """What to measure and how often."""

    rounds: int = 5
    """Of each way, in turns."""
    slow_rounds: int = 3
    """Of those that take seconds."""
    steps: tuple[str, ...] = STEPS
    monai: bool = False
    """Install MONAI beside and compare with it."""
    shapes: Mapping[str, Shape] | None = None
    """Synthetic series of these shapes, for tests; None: the real ones, or synthetic ones of their size."""
    quick: bool = False

    @property
    def complete(self) -> bool:
        """Whether a result of this plan may be published."""
        return not self.quick and self.shapes is None and self.steps == STEPS


@dataclass(frozen=True)
class VolumesResult:
    """The document, and what it holds in types."""

    document: Document
    found: Findings

    @property
    def faults(self) -> list[str]:
        """Answers that differ from the others' by more than may be."""
        return [
            f"{check.step} of {check.input} against {check.against}: {check.what} is {check.value:g}, at most "
            f"{check.most:g}"
            for check in self.found.checks
            if not check.is_right
        ]


def bench_volumes(checkout: Path, output: Path, plan: VolumesPlan, command: str, report: Report) -> VolumesResult:
    """Measure what the plan says, one thread first and then two, every number in a pinned process."""
    busy = os.getloadavg()[0] > _BUSY_LOAD
    report("the series, read or made once")
    shapes = plan.shapes or {}
    inputs = {name: prepare_series(output / "inputs", checkout, name, shapes.get(name)) for name in SHAPES}
    monai, told = _monai(checkout, plan, report)
    found = Findings()
    for threads in [1, 2][: len(cores())]:
        with Worker("wetread_bench.volumes_worker", str(threads), one_thread=False) as worker:
            for step, arguments in _work(plan, inputs, threads, monai):
                report(f"{threads} {'core' if threads == 1 else 'cores'}: {step} {arguments['name']}")
                found += Findings.from_json(worker.ask(step, **arguments))
    memory = _memory(inputs, report) if "memory" in plan.steps else {}
    cold = _cold_start(report) if "cold_start" in plan.steps else {}
    peak = memory["ct"]["wetread"]["over_output"] if memory else None
    numbers = figures(found, peak)
    right = all(check.is_right for check in found.checks)
    document = Document.of(
        checkout,
        "volumes",
        command,
        complete=plan.complete and not busy and right and numbers.keys() >= REQUIRED,
        inputs={name: asdict(series) | {"folder": Path(series.folder).name} for name, series in inputs.items()},
        settings=_settings(plan) | {"monai": told},
        measurements={**found.to_json(), "memory": memory, "cold_start_s": cold},
        figures=numbers,
        remarks=_remarks(plan, inputs, told, busy=busy),
    )
    return VolumesResult(document, found)


def _work(
    plan: VolumesPlan, inputs: Mapping[str, SeriesInput], threads: int, monai: str
) -> list[tuple[str, dict[str, Any]]]:
    """The steps of one worker with their arguments."""
    often = {"rounds": plan.rounds}
    seldom = {**often, "slow_rounds": plan.slow_rounds}
    work: list[tuple[str, dict[str, Any]]] = []
    for name, series in inputs.items():
        place = {"name": name, "folder": series.folder}
        work += [("resample", place | seldom), ("series", place | seldom | {"monai": monai})]
        work += [("costs", place | often)]
        work += [("bias_field", place | {"rounds": plan.slow_rounds})] * (name == "mr")
        work += [("denoise", place | seldom)] * (name == "mr" and threads == 1)
    return [(step, arguments) for step, arguments in work if step in plan.steps]


def _monai(checkout: Path, plan: VolumesPlan, report: Report) -> tuple[str, dict[str, str] | str]:
    """The Python that has MONAI, empty without; and its versions or why it is not compared."""
    if not plan.monai:
        return "", "not asked for (--with-monai)"
    report("MONAI in an environment of its own")
    try:
        python = make_monai(checkout / "build" / "monai-venv")
    except NoMonai as error:
        report(f"without MONAI, which cannot be installed here: {error}")
        return "", f"cannot be installed here: {error}"
    return str(python), monai_versions(python)


def _memory(inputs: Mapping[str, SeriesInput], report: Report) -> dict[str, dict[str, dict[str, float]]]:
    """Peak memory of each series, each way in a fresh process of all cores."""
    seen: dict[str, dict[str, dict[str, float]]] = {}
    threads = min(2, len(cores()))
    pools = dict.fromkeys(POOLS, str(threads))
    for name, series in inputs.items():
        report(f"memory: {name}")
        for way in _MEMORY_WAYS:
            command = [sys.executable, "-m", "wetread_bench.volumes_memory", way, series.folder, name, str(threads)]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **pools})
            seen.setdefault(name, {})[way] = json.loads(ran.stdout.splitlines()[-1])
    return seen


def _cold_start(report: Report) -> dict[str, float]:
    """Seconds until the kernels are ready: compiled into an empty cache, and fetched from it by another process."""
    report("cold start: kernels compiled, and from their cache")
    seen = {}
    with tempfile.TemporaryDirectory(prefix="wetread-kernels-") as folder:
        for name in ("empty cache", "warm cache"):
            before = os.environ.get("NUMBA_CACHE_DIR")
            os.environ["NUMBA_CACHE_DIR"] = folder
            try:
                with Worker("wetread_bench.volumes_worker", "1", one_thread=False) as worker:
                    seen[name] = float(worker.ask("compile")["seconds"])
            finally:
                del os.environ["NUMBA_CACHE_DIR"]
                if before is not None:
                    os.environ["NUMBA_CACHE_DIR"] = before
    return seen


def _settings(plan: VolumesPlan) -> dict[str, object]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "rounds": plan.rounds,
        "slow_rounds": plan.slow_rounds,
        "steps": plan.steps,
        "compared": versions,
        "spacing_mm": "1, to the extent over a whole number of voxels",
    }


def _remarks(
    plan: VolumesPlan, inputs: Mapping[str, SeriesInput], monai: dict[str, str] | str, *, busy: bool
) -> tuple[str, ...]:
    remarks = []
    if busy:
        remarks.append("the machine was busy when this began: its ratios are from turns, its times are not to be used")
    if any("SYNTHETIC" in series.source for series in inputs.values()):
        remarks.append("synthetic series: their content is simple, which no way of resampling gains by")
    if isinstance(monai, str):
        remarks.append(f"MONAI is not compared: {monai}")
    if plan.quick:
        remarks.append("a quick run: it shows that everything runs, its figures mean nothing")
    return tuple(remarks)
