"""The bench of volumes: its series, its clock, its judgement of answers, its figures, and a tiny run of all of it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pydicom
import pytest
import SimpleITK
from rich.console import Console
from tiers import IS_FULL, tried
from wetread_bench import volumes, volumes_bias_field, volumes_memory, volumes_monai_site, volumes_rows
from wetread_bench.publish import NotPublishable, publish
from wetread_bench.results import Spread
from wetread_bench.volumes import VolumesPlan, VolumesResult, bench_volumes
from wetread_bench.volumes_bias_field import field_difference
from wetread_bench.volumes_denoise import noisy_crop, psnr
from wetread_bench.volumes_figures import FAST_NLM, LINEAR, N4, NLM, QUOTIENTS, SERIES, SLOW_NLM, figures
from wetread_bench.volumes_inputs import prepare_series, series_files, write_series
from wetread_bench.volumes_memory import status_bytes
from wetread_bench.volumes_monai_site import NoMonai, make_monai
from wetread_bench.volumes_resample import compare_resampling
from wetread_bench.volumes_rows import ONE_THREAD, OURS, Check, Findings, Row, Way, in_turns
from wetread_bench.volumes_series import recipe
from wetread_bench.volumes_stack import Source, read_files, read_whole
from wetread_bench.volumes_tables import show_volumes
from wetread_bench.volumes_worker import Steps
from wetread_bench.worker import Worker
from wetread_preprocess.volumes import VolumePreprocessor
from wetread_preprocess.volumes.resample import resample
from wetread_preprocess.volumes.steps import BiasField

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TINY = {"ct": (24, 48, 48), "mr": tried((40, 32, 28), (48, 48, 44))}
KERNELS = os.environ["NUMBA_CACHE_DIR"]


def row(step: str, name: str, way: str, threads: int, ms: float) -> Row:
    return Row(step, name, way, threads, Spread(ms, ms, ms), 1)


@pytest.fixture(scope="module")
def tiny_ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, "ct", TINY["ct"])
    return folder


def test_synthetic_series_have_content_noise_and_padding_and_say_what_they_are(tmp_path: Path) -> None:
    ct = prepare_series(tmp_path, ROOT, "ct", TINY["ct"])
    assert (ct.files, "SYNTHETIC" in ct.source) == (24, True)
    planes = np.stack([pydicom.dcmread(file).pixel_array for file in series_files(Path(ct.folder))])
    assert planes.min() == -3024
    assert np.count_nonzero(planes > 0) > 0.1 * planes.size
    assert len(np.unique(planes)) > 300
    again = prepare_series(tmp_path, ROOT, "ct", TINY["ct"])
    assert again == ct


@pytest.mark.full
def test_ways_are_timed_in_turns_and_slow_ones_less_often() -> None:
    order: list[str] = []
    shown: list[tuple[str, object]] = []

    def way(name: str, rounds: int | None = None) -> Way:
        return Way(name, lambda: order.append(name) or name, rounds)  # type: ignore[func-returns-value]

    rows = in_turns("step", "ct", 1, [way("a"), way("b", 1), way("c")], 3, lambda *seen: shown.append(seen))
    assert order == ["a", "b", "c", "a", "c", "a", "c"]
    assert [each.rounds for each in rows] == [3, 1, 3]
    assert shown == [("a", "a"), ("b", "b"), ("c", "c")]


@pytest.mark.slow
def test_a_way_elsewhere_brings_its_own_clock() -> None:
    (seen,) = in_turns("step", "ct", 2, [Way("MONAI", lambda: 1.5, own_clock=True)], 2)
    assert seen.ms == Spread(1500.0, 1500.0, 1500.0)


def test_findings_survive_the_line_between_two_processes() -> None:
    found = Findings((row("a", "ct", OURS, 1, 2.0),), (Check("a", "ct", "scipy", "what", 0.1, 0.2),), {"n": 1.0})
    assert Findings.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(("value", "right"), [(0.5, True), (-0.5, True), (1.5, False), (-1.5, False), (np.nan, False)])
def test_a_difference_beyond_what_may_be_is_wrong_and_so_is_no_number(value: float, right: bool) -> None:
    assert Check("a", "ct", "scipy", "what", value, 1.0).is_right is right


@pytest.mark.full
def test_resampling_is_timed_and_equal_to_every_other_way(tiny_ct: Path) -> None:
    found = compare_resampling(Source.of(read_whole(tiny_ct, "CT"), 1.5), "ct", 1, 1, 1)
    seen = {(check.step, check.against) for check in found.checks}
    assert {(LINEAR, "scipy"), (LINEAR, "SimpleITK"), ("resample, B-spline", "SimpleITK")} <= seen
    assert all(check.is_right for check in found.checks), found.checks
    assert {each.way for each in found.rows} >= {OURS, "scipy", "SimpleITK"}


@pytest.mark.full
def test_a_fast_wrong_answer_is_an_error(tiny_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object, **named: object) -> None:
        resample(*arguments, **named)  # type: ignore[arg-type]
        out = named["out"]
        assert isinstance(out, np.ndarray)
        out[12, 12, 12] += 20.0

    monkeypatch.setattr("wetread_bench.volumes_resample.resample", wrong)
    found = compare_resampling(Source.of(read_whole(tiny_ct, "CT"), 1.5), "ct", 1, 1, 1)
    assert not all(check.is_right for check in found.checks if check.step == LINEAR)


def test_the_inner_part_keeps_away_from_the_border(tiny_ct: Path) -> None:
    source = Source.of(read_whole(tiny_ct, "CT"), 1.5)
    for part, factor, old in zip(source.inner(3), source.factors, source.stack.shape, strict=True):
        assert (part.start + 0.5) * factor - 0.5 >= 3
        assert (part.stop - 0.5) * factor - 0.5 <= old - 4


def test_noise_of_a_twentieth_of_the_range_is_added_to_the_crop(tiny_ct: Path) -> None:
    clean, noisy, added = noisy_crop(read_whole(tiny_ct, "CT").stack, (12, 40, 40))
    values = np.stack([one.pixels for one in noisy.slices])
    assert values.shape == clean.shape == (12, 40, 40)
    assert float((values - clean).std()) == pytest.approx(0.05 * float(np.ptp(clean)), rel=0.03)
    assert psnr(values, clean) == pytest.approx(20 * np.log10(np.ptp(clean) / added), abs=0.3)


def test_fields_that_differ_by_a_factor_are_one_field() -> None:
    values = np.full((4, 4, 4), 100.0, np.float32)
    first = values / np.linspace(0.9, 1.1, 64, dtype=np.float32).reshape(4, 4, 4)
    tissue = np.ones(values.shape, bool)
    assert field_difference(values, first, first * np.float32(2.5), tissue) == pytest.approx(0.0, abs=1e-4)
    other = first.copy()
    other[0, 0, 0] *= np.float32(0.95)
    assert field_difference(values, first, other, tissue) == pytest.approx(5.0, abs=0.2)


def test_the_peak_is_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    assert (status_bytes("VmHWM", 7, tmp_path), status_bytes("VmRSS", 7, tmp_path)) == (2 << 20, 1 << 20)
    assert status_bytes("VmHWM", 8, tmp_path) == 0


def test_memory_is_the_peak_less_what_was_held_before_over_the_output() -> None:
    told = volumes_memory._told(1000, 4000, 1500, 1200, 0)
    assert (told["peak_bytes"], told["over_output"], told["over_content"]) == (3000, 2.0, 2.5)


def test_figures_are_quotients_of_medians_in_the_direction_that_their_names_say() -> None:
    rows = (
        row(LINEAR, "ct", OURS, 1, 100.0), row(LINEAR, "ct", "scipy", 1, 2000.0), row(LINEAR, "ct", OURS, 2, 60.0),
        row(LINEAR, "ct", ONE_THREAD, 2, 100.0),
        row(LINEAR, "ct", "SimpleITK", 1, 500.0), row(LINEAR, "mr", OURS, 1, 1.0),
        row(SERIES, "ct", OURS, 2, 200.0), row(SERIES, "ct", "SimpleITK", 2, 1000.0),
        row(NLM, "mr", OURS, 1, 10.0), row(NLM, "mr", SLOW_NLM, 1, 150.0), row(NLM, "mr", FAST_NLM, 1, 20.0),
        row(N4, "mr", OURS, 2, 90.0), row(N4, "mr", "SimpleITK", 2, 100.0),
    )  # fmt: skip
    checks = (
        Check(LINEAR, "ct", "SimpleITK", "", 1e-5, 1e-3), Check(LINEAR, "mr", "SimpleITK", "", 3e-5, 1e-3),
        Check(LINEAR, "ct", "scipy", "", 9e-4, 1e-3), Check(N4, "mr", "SimpleITK", "", 0.25, 1.0),
    )  # fmt: skip
    psnrs = {f"{NLM}, PSNR dB, {OURS}": 30.0, f"{NLM}, PSNR dB, {SLOW_NLM}": 30.2}
    assert figures(Findings(rows, checks, psnrs), 1.5) == {
        "resample_speedup_scipy": 20.0,
        "resample_speedup_simpleitk": 5.0,
        "resample_two_threads_over_one": 0.6,
        "series_time_over_simpleitk": 0.2,
        "nlm_speedup_skimage": 15.0,
        "nlm_speedup_skimage_fast": 2.0,
        "n4_time_over_simpleitk": 0.9,
        "peak_memory_over_output": 1.5,
        "resample_max_difference": 3e-5,
        "n4_field_difference": 0.25,
        "nlm_psnr_difference_db": -0.2,
    }
    assert figures(Findings(), None) == {}


def test_every_figure_of_the_design_is_among_them() -> None:
    design = {"resample_speedup_scipy", "resample_speedup_simpleitk", "series_time_over_simpleitk"}
    assert design | {"nlm_speedup_skimage"} <= QUOTIENTS.keys()


def test_monai_that_cannot_be_installed_is_no_error_of_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*words: str) -> str:
        raise subprocess.CalledProcessError(1, words, stderr="first line\nERROR: no matching distribution\n")

    monkeypatch.setattr(volumes_monai_site, "_run", fails)
    with pytest.raises(NoMonai, match="no matching distribution"):
        make_monai(tmp_path / "venv")


@pytest.mark.slow
def test_the_recipe_of_the_bench_makes_the_grid_of_1_mm(tiny_ct: Path) -> None:
    with VolumePreprocessor(recipe("ct"), 1) as preprocessor:
        volume = preprocessor.read(read_files(tiny_ct))
    assert volume.grid.shape == (60, 43, 43)
    assert (volume.content.min(), volume.content.max()) == pytest.approx((0.0, 1.0), abs=1e-6)


class Here:
    """A worker within this process, which has imported what the bench compares and loaded the kernels already."""

    caches: list[str]
    """Where the kernels of each cold start would have been kept."""

    def __init__(self, module: str, threads: str, *, one_thread: bool) -> None:
        assert (module, one_thread) == ("wetread_bench.volumes_worker", False)
        self._steps = Steps(int(threads))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failed: object) -> None:
        """There is nothing to end."""

    def ask(self, command: str, **arguments: Any) -> Any:
        if command == "compile":
            self.caches.append(os.environ["NUMBA_CACHE_DIR"])
            assert list(Path(self.caches[-1]).iterdir()) == []
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("NUMBA_CACHE_DIR", KERNELS)
                return self._steps.compile()
        return json.loads(json.dumps(getattr(self._steps, command)(**json.loads(json.dumps(arguments)))))


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where cold starts kept their kernels; outside the full tier the workers are this process.

    There N4 takes fewer steps, kernels are not compiled anew, and memory is measured, by processes, of the CT alone.
    """
    seen: list[str] = []
    if IS_FULL:
        yield seen
        return
    monkeypatch.setattr(Here, "caches", seen, raising=False)
    monkeypatch.setattr(volumes, "Worker", Here)
    memory = volumes._memory
    monkeypatch.setattr(volumes, "_memory", lambda inputs, report: memory({"ct": inputs["ct"]}, report))
    monkeypatch.setattr(volumes_bias_field, "BiasField", lambda: BiasField(iterations=(4, 4)))
    # Before each way that it times the bench collects garbage, here among all that the tests have imported.
    monkeypatch.setattr(volumes_rows, "gc", SimpleNamespace(collect=lambda: 0))
    with _threads_as_before():
        yield seen


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """The other libraries' threads, which the bench sets for a whole process."""
    torch = importlib.import_module("torch") if find_spec("torch") else None
    threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads(), torch and torch.get_num_threads()
    yield
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads[0])
    if torch:
        torch.set_num_threads(threads[1])


@pytest.mark.slow
def test_a_tiny_run_measures_every_step_and_may_not_be_published(tmp_path: Path, caches: list[str]) -> None:
    plan = VolumesPlan(1, 1, shapes=TINY)
    result = bench_volumes(ROOT, tmp_path, plan, "wetread bench volumes", lambda _line: None)
    document = result.document
    assert not document.complete
    assert {
        "resample_speedup_scipy",
        "series_time_over_simpleitk",
        "peak_memory_over_output",
    } <= document.figures.keys()
    assert {"nlm_speedup_skimage", "n4_time_over_simpleitk", "resample_max_difference"} <= document.figures.keys()
    assert any("synthetic" in remark for remark in document.remarks)
    written = json.loads(document.write(tmp_path).read_text())
    assert written["figures"] == document.figures
    assert written["machine"]["cores"] >= 1
    with pytest.raises(NotPublishable):
        publish("volumes", tmp_path, ROOT)
    console = Console(record=True, width=160)
    show_volumes(result, console)
    assert "resample, linear" in console.export_text()
    assert result.faults == []
    if not IS_FULL:
        assert len(caches) == 2
        assert len(set(caches)) == 1, "the second cold start is to find what the first has kept"
        assert os.environ["NUMBA_CACHE_DIR"] == KERNELS


@pytest.mark.slow
def test_a_worker_is_a_process_that_measures_with_its_threads(tiny_ct: Path) -> None:
    with Worker("wetread_bench.volumes_worker", "2", one_thread=False) as worker:
        found = Findings.from_json(worker.ask("costs", name="ct", folder=str(tiny_ct), rounds=1))
    assert found.rows
    assert {each.threads for each in found.rows} == {2}


@pytest.mark.slow
def test_a_wrong_answer_is_told_by_its_step(tmp_path: Path) -> None:
    result = bench_volumes(ROOT, tmp_path, VolumesPlan(1, 1, steps=(), shapes=TINY), "", lambda _line: None)
    assert result.faults == []
    wrong = replace(result.found, checks=(Check(LINEAR, "ct", "scipy", "largest difference", 0.5, 1e-3),))
    told = VolumesResult(result.document, wrong).faults
    assert told == ["resample, linear of ct against scipy: largest difference is 0.5, at most 0.001"]
