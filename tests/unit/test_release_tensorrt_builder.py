"""The builder that GPU servers run, run for real: on NVIDIA's compiler where it is installed, skipped where not."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from nvidia_compiler import started_compiler
from refused_models import QUANTISED_WELL, model, node
from wetread_release.digest import file_digest
from wetread_release.errors import BadModel
from wetread_release.tensorrt import builder, libraries
from wetread_release.tensorrt.builder import Plan, PlanSpec, Refused, build_plan
from wetread_release.tensorrt.compiler import Compiler
from wetread_release.tensorrt.jobs import Job, Options
from wetread_release.tensorrt.libraries import NoCompiler
from wetread_release.tensorrt.operator_rules import REMEDIES
from wetread_release.tensorrt.plan import RTX
from wetread_release.tensorrt.precision import in_precision, precision_of
from wetread_release.tensorrt.profiles import AxisRange

CLASSIFIER = Path(__file__).parents[2] / "model_repository" / "chest_xray_classifier" / "1" / "model.onnx"
CUBE = AxisRange(64, 128, 192)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory) -> Iterator[Compiler]:
    with started_compiler(tmp_path_factory.mktemp("libraries")) as started:
        yield started


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.onnx"
    QUANTISED_WELL(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_reference_classifier_compiles(precision, tmp_path, compiler):
    path = in_precision(CLASSIFIER, precision, tmp_path, {})
    assert precision_of(onnx.load(path)) == precision

    plan = build_plan(PlanSpec(path, AxisRange(1, 8, 16)), tmp_path / "cache", compiler)

    assert plan.path.stat().st_size == plan.plan_bytes > 1_000_000
    assert plan.key.tensorrt == compiler.version


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_3d_meshnet_compiles_with_a_range_for_every_axis(precision, tmp_path, data_folder, compiler):
    axes = dict.fromkeys("xyz", CUBE)
    path = in_precision(data_folder / "models" / "meshnet_gw_wm.onnx", precision, tmp_path, axes)

    plan = build_plan(PlanSpec(path, AxisRange(1, 1, 1), axes), tmp_path / "cache", compiler)

    assert plan.plan_bytes > 0


@pytest.mark.slow
def test_half_precision_makes_a_smaller_plan(tmp_path, compiler):
    sizes = {
        precision: build_plan(
            PlanSpec(in_precision(CLASSIFIER, precision, tmp_path, {})), tmp_path, compiler
        ).plan_bytes
        for precision in ("fp32", "fp16")
    }

    assert sizes["fp16"] < 0.7 * sizes["fp32"]


def test_a_plan_of_the_same_key_is_taken_from_the_cache(small, tmp_path, compiler):
    made = build_plan(PlanSpec(small), tmp_path, compiler)
    again = build_plan(PlanSpec(small), tmp_path, compiler)

    assert not made.reused
    assert again == dataclasses.replace(made, reused=True)


@pytest.mark.slow
def test_another_file_other_shapes_and_other_options_are_other_keys(small, tmp_path, compiler):
    other = tmp_path / "other.onnx"
    changed = onnx.load(small)
    changed.producer_name = "somebody else"
    onnx.save(changed, other)
    specs = [
        PlanSpec(small),
        PlanSpec(other),
        PlanSpec(small, AxisRange(1, 2, 4)),
        PlanSpec(small, options=Options(workspace_mib=64)),
        PlanSpec(small, options=Options(hardware_compatible=True)),
    ]

    plans = [build_plan(spec, tmp_path, compiler) for spec in specs]

    assert len({plan.path for plan in plans}) == len(specs)
    assert not any(plan.reused for plan in plans)


def test_weights_kept_outside_are_part_of_the_key(small, tmp_path):
    path = tmp_path / "outside.onnx"
    onnx.save(onnx.load(small), path, save_as_external_data=True, location="outside.data", size_threshold=0)
    before = builder.model_digest(path)
    data = tmp_path / "outside.data"
    data.write_bytes(data.read_bytes()[:-1] + b"x")

    assert builder.model_digest(path) != before


@pytest.mark.parametrize("spoil", ["plan", "record"])
def test_a_damaged_cache_is_built_anew(spoil, small, tmp_path, compiler):
    made = build_plan(PlanSpec(small), tmp_path, compiler)
    path = made.path if spoil == "plan" else made.path.with_suffix(".json")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    again = build_plan(PlanSpec(small), tmp_path, compiler)

    assert not again.reused
    assert again.sha256 == file_digest(again.path)


def test_timings_are_kept_for_one_gpu_and_version(small, tmp_path, compiler):
    plan = build_plan(PlanSpec(small), tmp_path, compiler)

    (timings,) = (tmp_path / "timings").iterdir()
    assert timings.name == f"{plan.key.capability}-{compiler.version}.timings"
    assert timings.stat().st_size > 0
    timings.write_bytes(b"of another version")
    assert build_plan(PlanSpec(small, AxisRange(1, 2, 2)), tmp_path, compiler).plan_bytes > 0


def test_a_plan_for_later_versions_needs_libraries_that_a_cpu_has_not_and_says_so(small, tmp_path, compiler):
    if compiler.libraries.compiler != RTX:
        pytest.skip("a real TensorRT has its lean runtime")

    with pytest.raises(Refused, match="lean runtime"):
        build_plan(PlanSpec(small, options=Options(version_compatible=True)), tmp_path, compiler)


def test_what_tensorrt_refuses_is_raised_with_node_and_remedy(tmp_path, compiler):
    path = tmp_path / "bad.onnx"
    onnx.save(model([node("NonZero", ["IMAGE"], ["SCORES"], name="/find/NonZero")]), path)

    with pytest.raises(Refused, match=re.compile("NonZero /find/NonZero.*mask", re.DOTALL)) as caught:
        build_plan(PlanSpec(path), tmp_path, compiler)

    assert [refusal.node for refusal in caught.value.refusals] == ["/find/NonZero"]


def test_a_plan_of_a_cpus_libraries_is_never_handed_to_triton(small, tmp_path, compiler):
    plan = build_plan(PlanSpec(small), tmp_path, compiler)
    if plan.header.servable:
        pytest.skip("this machine has a real TensorRT")

    with pytest.raises(BadModel, match="TensorRT for RTX, whose plans Triton does not read"):
        plan.require_servable()


@pytest.mark.slow
def test_the_death_of_the_compiler_is_an_error_with_its_last_words(small, tmp_path, compiler):
    with Compiler(tmp_path) as doomed:
        os.kill(doomed.process_id, signal.SIGSEGV)

        with pytest.raises(BadModel, match="died while it compiled: signal SIGSEGV"):
            doomed.run(Job(str(small)))


def test_our_list_of_operators_is_what_nvidia_s_parser_says(tmp_path, compiler):
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    path = tmp_path / "all.onnx"
    onnx.save(model([node(name, ["IMAGE"], [f"{name}_out"], name=name) for name in sorted(known)]), path)

    refused = set(compiler.run(Job(str(path))).unknown_operators)

    assert refused == set(REMEDIES) - {"NonZero"}, "NonZero is a plugin, refused when it is parsed"


class TestLibraries:
    @pytest.fixture
    def wheel(self, compiler) -> Path:
        if compiler.libraries.path is None:
            pytest.skip("a real TensorRT needs no links")
        return (compiler.libraries.path / "libnvinfer.so.11").resolve().parent

    def test_the_folder_of_links_is_made_once(self, wheel, tmp_path):
        first = libraries.link_folder(wheel, tmp_path)
        made = first.stat().st_ino

        assert libraries.link_folder(wheel, tmp_path) == first
        assert first.stat().st_ino == made
        assert [path.name for path in first.parent.iterdir()] == [first.name]

    def test_without_patchelf_nothing_is_left_and_the_extra_is_named(self, wheel, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

        with pytest.raises(NoCompiler, match=r"patchelf is missing.*wetread\[tensorrt\]"):
            libraries.link_folder(wheel, tmp_path)

        assert list((tmp_path / "libraries").iterdir()) == []

    def test_a_wheel_of_another_layout_is_told_by_name(self, tmp_path):
        with pytest.raises(NoCompiler, match="has no libtensorrt_rtx"):
            libraries.link_folder(tmp_path, tmp_path)

    def test_a_folder_of_type_stubs_is_no_tensorrt(self, wheel, tmp_path, monkeypatch):
        (tmp_path / "tensorrt").mkdir()
        monkeypatch.syspath_prepend(tmp_path)

        assert libraries.find_libraries(tmp_path).compiler == RTX

    @pytest.mark.slow
    def test_what_the_libraries_print_is_no_answer(self, tmp_path):
        (tmp_path / "loud.py").write_text(
            "import os\nos.write(1, b'hello\\n')\n__version__ = '11.4'\nILogger = object\nBuilder = lambda _: None\n"
        )

        done = subprocess.run(
            [sys.executable, "-m", "wetread_release.tensorrt.child", "loud"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )

        assert (done.stdout, done.stderr) == (b"11.4\n", b"hello\n")

    def test_without_the_extra_the_remedy_is_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda _: None)

        with pytest.raises(NoCompiler, match="make setup-tensorrt"):
            build_plan(PlanSpec(CLASSIFIER), tmp_path)


@pytest.mark.slow
def test_a_plan_is_copied_whole(small, tmp_path, compiler):
    plan: Plan = build_plan(PlanSpec(small), tmp_path / "cache", compiler)
    target = tmp_path / "model.plan"

    builder.copy_plan(plan, target)

    assert target.read_bytes() == plan.path.read_bytes()
