"""The bench of engines: what is compared, and what is said of devices that are not here."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from small_network import small_network
from wetread_bench import engines
from wetread_bench.engines_accuracy import Compared, compare
from wetread_bench.engines_providers import PLAN, PROVIDERS, provider_rows
from wetread_release.building.timing import Timing
from wetread_release.gate.films import FilmSet, GateFilm
from wetread_release.gate.measure import Cost
from wetread_release.gate.server import Answer

FILMS = FilmSet(tuple(GateFilm(f"f{n}", None, b"", "", f"p{n // 2}") for n in range(8)), "eight films")
TRUTH = {f"f{n}": (n >= 4,) for n in range(8)}
FP32 = [Answer((value,), (value >= 0.5,)) for value in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)]


def changed(**values: Answer) -> list[Answer]:
    answers = list(FP32)
    for name, answer in values.items():
        answers[int(name[1:])] = answer
    return answers


@pytest.mark.slow
def test_flips_and_the_drop_of_the_auc_are_counted_over_labelled_films() -> None:
    seen = compare(FP32, changed(f4=Answer((0.05,), (False,))), FILMS, TRUTH, (0.5,))
    assert (seen.films, seen.flips, seen.flips_percent) == (8, 1, 12.5)
    assert seen.auc_drop == pytest.approx(0.25)
    assert seen.auc_drop_low <= 0.25 <= seen.auc_drop_high


def test_films_that_one_side_does_not_read_are_left_out_and_without_labels_there_is_no_auc() -> None:
    seen = compare(FP32, changed(f0=Answer(error="no decoder")), FILMS, {}, (0.5,))
    assert (seen.films, seen.flips, seen.auc_drop) == (7, 0, None)


def test_what_is_not_here_is_marked_as_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    rows = provider_rows({"fp32": tmp_path / "absent.onnx"}, (1, 8), 3)
    assert {row["engine"] for row in rows} == {*PROVIDERS.values(), PLAN}
    assert len(rows) == 2 * (len(PROVIDERS) + 1)
    assert all(row["not_run"] and "ms" not in row for row in rows)


def test_a_provider_that_is_here_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, "CPUExecutionProvider", "ONNX Runtime CPU")
    rows = provider_rows({"fp32": small_network(tmp_path / "fp32.onnx")}, (1, 2), 3)
    timed = [row for row in rows if row["engine"] == "ONNX Runtime CPU"]
    assert [row["batch"] for row in timed] == [1, 2]
    assert all(row["ms"]["median"] > 0 and row["films_per_s"] > 0 for row in timed)


def test_figures_are_ratios_of_one_engine_and_of_one_server() -> None:
    files = {name: Path(name) for name in engines.PRECISIONS}
    medians = {"fp32": (30.0, 40.0), "fp16": (60.0, 80.0), "int8": (15.0, 100.0)}
    timed = {
        files[name]: tuple(
            Timing(engine, batch, ms * batch / 8)
            for batch in (1, 8)
            for engine, ms in zip(("openvino", "onnxruntime"), both, strict=True)
        )
        for name, both in medians.items()
    }
    costs = {
        name: Cost(10.0, 12.0, rate, 8, ms, 100.0)
        for name, rate, ms in (("fp32", 50.0, 32.0), ("fp16", 40.0, 64.0), ("int8", 75.0, 20.0))
    }
    compared = {"fp16": Compared(8, 0, 0.0), "int8": Compared(8, 1, 0.1, 0.9, 0.01, 0.0, 0.02)}
    figures = engines._figures(files, timed, costs, compared)
    assert figures["int8_over_fp32_openvino"] == 2.0
    assert figures["int8_over_fp32_onnxruntime"] == 0.4
    assert figures["int8_over_fp32_triton_classifier"] == 1.6
    assert figures["int8_over_fp32_triton_pipeline"] == 1.5
    assert figures["openvino_over_onnxruntime_fp32"] == pytest.approx(1.333)
    assert (figures["int8_flips_percent"], figures["int8_auc_drop"]) == (12.5, 0.01)
    assert "fp16_auc_drop" not in figures
