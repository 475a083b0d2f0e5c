"""The engines for one network: FP32, FP16 and INT8, batches 1, 8 and 32, every provider here, alone and in Triton."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from wetread_release.building.make import Wish, build
from wetread_release.building.record import BuildRecord, tool_versions
from wetread_release.building.timing import ENGINES, time_models
from wetread_release.digest import file_digest
from wetread_release.draft import ANY_TARGET, Draft, part_folder
from wetread_release.errors import BadDraft
from wetread_release.gate.films import FilmSet, films_of_test_patients, synthetic_films
from wetread_release.gate.lay_out import Side, side_of_draft
from wetread_release.gate.measure import measure
from wetread_release.gate.server import serving
from wetread_release.places import Places
from wetread_release.release_site import Site

from wetread_bench.document import Document
from wetread_bench.engines_accuracy import Compared, compare
from wetread_bench.engines_providers import provider_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wetread_release.building.timing import Timing
    from wetread_release.gate.measure import Cost

    Report = Callable[[str], None]

PIPELINE = "chest_xray"
FILMS = "films"
"""Folder of the synthetic ones."""
PRECISIONS = ("fp32", "fp16", "int8")
BATCHES = (1, 8, 32)
JUDGED_BATCH = 8
_BUSY_LOAD = 0.5
"""Load average above which the machine does other things."""
_STARTUP_S = 180.0


@dataclass(frozen=True)
class EnginesPlan:
    """How long to measure."""

    repeats: int = 30
    """Runs of each file on each engine with each batch, in turns."""
    served_times: int = 60
    """Films a side in Triton for latency and rate."""
    data: Path | None = None
    """Folder with NORMAL and PNEUMONIA; None: synthetic films."""
    split_seed: int = 0
    """Of the training: INT8 is calibrated with its training patients and judged on its test patients."""
    quick: bool = False


def bench_engines(checkout: Path, output: Path, plan: EnginesPlan, command: str, report: Report) -> Document:
    """Build the three drafts, time them on every engine, serve them side by side and compare what they say."""
    busy = os.getloadavg()[0] > _BUSY_LOAD
    drafts = {precision: draft_of(checkout, output / "engines", precision, plan, report) for precision in PRECISIONS}
    report("timing the files in turns")
    files = {precision: _file(folder) for precision, folder in drafts.items()}
    config = Draft.load(drafts["fp32"]).part("classifier").config
    timed = time_models(list(files.values()), config, BATCHES, plan.repeats)
    rows = [_row(precision, timing) for precision, file in files.items() for timing in timed[file]]
    rows += provider_rows(files, BATCHES, plan.repeats)
    films = films_of_test_patients(plan.data, plan.split_seed) if plan.data else synthetic_films(checkout)
    if plan.quick:
        films = films.at_most(16)
    costs, compared = _served(checkout, drafts, films, plan, report)
    remarks = _remarks(plan, busy=busy)
    return Document.of(
        checkout,
        "engines",
        command,
        complete=not (plan.quick or busy or plan.data is None),
        inputs={"films": films.where, "count": len(films.films), "synthetic": films.synthetic},
        settings={"threads": 1, "repeats": plan.repeats, "instances_in_triton": 2},
        measurements={
            "engines": rows,
            "triton": {precision: vars(cost) for precision, cost in costs.items()},
            "answers": {precision: vars(each) for precision, each in compared.items()},
        },
        figures=_figures(files, timed, costs, compared),
        remarks=remarks,
    )


def draft_of(checkout: Path, folder: Path, precision: str, plan: EnginesPlan, report: Report) -> Path:
    """Build a draft of the shipped network in a precision; one of the same file, films and tools stays."""
    target = folder / precision
    network = checkout / "model_repository" / f"{PIPELINE}_classifier" / "1" / "model.onnx"
    if _is_current(target, network, plan):
        return target
    shutil.rmtree(target, ignore_errors=True)
    report(f"building {precision}")
    site = Site.open(Places(folder / "state"), checkout)
    wish = Wish(
        PIPELINE,
        network,
        precision=None if precision == "fp32" else precision,  # type: ignore[arg-type]  # one of PRECISIONS
        calibration=plan.data or _synthetic_folder(checkout, folder),
        train_split=plan.split_seed if plan.data else None,
    )
    return build(site, wish, target, folder / "cache", lambda _what, _done, _all: None).folder


def _is_current(draft: Path, network: Path, plan: EnginesPlan) -> bool:
    try:
        record = BuildRecord.load(draft)
    except BadDraft:
        return False
    films = record.calibration.folder if record.calibration else None
    wanted = plan.data.name if plan.data else FILMS
    return record.model["given"] == file_digest(network) and record.tools == tool_versions() and films in (None, wanted)


def _synthetic_folder(checkout: Path, folder: Path) -> Path:
    films = folder / FILMS
    films.mkdir(parents=True, exist_ok=True)
    for film in synthetic_films(checkout).films:
        (films / f"{film.name.replace('/', '-').replace(' ', '-')}.dcm").write_bytes(film.load())
    return films


def _file(draft: Path) -> Path:
    part = Draft.load(draft).part("classifier", ANY_TARGET)
    return part_folder(draft, part) / "model.onnx"


def _row(precision: str, timing: Timing) -> dict[str, object]:
    row: dict[str, object] = {"engine": f"embedded {timing.engine}", "precision": precision, "batch": timing.batch}
    if timing.error:
        return row | {"not_run": timing.error}
    ms = {"median": timing.median_ms, "low": timing.low_ms, "high": timing.high_ms}
    return row | {"ms": ms, "films_per_s": round(1e3 * timing.batch / timing.median_ms, 1)}


def _served(
    checkout: Path, drafts: Mapping[str, Path], films: FilmSet, plan: EnginesPlan, report: Report
) -> tuple[dict[str, Cost], dict[str, Compared]]:
    sides = [_side(folder, precision) for precision, folder in drafts.items()]
    report("serving the three side by side")
    with (
        tempfile.TemporaryDirectory(prefix="wetread-engines-") as scratch,
        serving(sides, checkout, Path(scratch), _STARTUP_S) as server,
    ):
        answers = server.read_all(films.films)
        labels = server.labels(sides[0])
        thresholds = server.thresholds(sides[0])
        timed = [film.load() for film in films.films[:8]]
        report("measuring in Triton")
        costs = measure(server, timed, plan.served_times)
    truth = films.truth(labels)
    compared = {
        name: compare(answers["fp32"], answers[name], films, truth, thresholds) for name in drafts if name != "fp32"
    }
    return costs, compared


def _side(folder: Path, precision: str) -> Side:
    return side_of_draft(folder, Draft.load(folder), ANY_TARGET, precision, precision)


def _figures(
    files: Mapping[str, Path],
    timed: Mapping[Path, Sequence[Timing]],
    costs: Mapping[str, Cost],
    compared: Mapping[str, Compared],
) -> dict[str, float]:
    alone = {
        (precision, timing.engine): timing.median_ms
        for precision, file in files.items()
        for timing in timed[file]
        if timing.batch == JUDGED_BATCH and not timing.error
    }
    found = {}
    for precision in PRECISIONS[1:]:
        for engine in ENGINES:
            if (precision, engine) in alone and ("fp32", engine) in alone:
                found[f"{precision}_over_fp32_{engine}"] = alone["fp32", engine] / alone[precision, engine]
        found[f"{precision}_over_fp32_triton_classifier"] = costs["fp32"].batch_ms / costs[precision].batch_ms
        found[f"{precision}_over_fp32_triton_pipeline"] = costs[precision].films_per_s / costs["fp32"].films_per_s
        found[f"{precision}_flips_percent"] = compared[precision].flips_percent
        if (drop := compared[precision].auc_drop) is not None:
            found[f"{precision}_auc_drop"] = drop
    if ("fp32", "openvino") in alone and ("fp32", "onnxruntime") in alone:
        found["openvino_over_onnxruntime_fp32"] = alone["fp32", "onnxruntime"] / alone["fp32", "openvino"]
    return {name: float(f"{value:.4g}") for name, value in found.items() if np.isfinite(value)}


def _remarks(plan: EnginesPlan, *, busy: bool) -> tuple[str, ...]:
    remarks = []
    if busy:
        remarks.append("the machine was busy when this began: its ratios are from turns, its times are not to be used")
    if plan.data is None:
        remarks.append("synthetic films: they calibrate and judge, which says nothing about real ones")
    remarks.append("a TensorRT plan in Triton is not run without an NVIDIA GPU and NVIDIA's container")
    return tuple(remarks)
