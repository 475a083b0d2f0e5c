"""Models broken on purpose are refused by name, and pass once the remedy is followed: on NVIDIA's own compiler."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from nvidia_compiler import started_compiler
from refused_models import BROKEN, Broken
from wetread_release.tensorrt.builder import PlanSpec
from wetread_release.tensorrt.compiler import Compiler
from wetread_release.tensorrt.graph import input_shapes
from wetread_release.tensorrt.jobs import Job
from wetread_release.tensorrt.preflight import Report, preflight
from wetread_release.tensorrt.profiles import BATCH, AxisRange, profiles_of, ranges_of
from wetread_release.tensorrt.remedies import explained


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture(scope="module")
def compiler(cache) -> Iterator[Compiler]:
    with started_compiler(cache) as started:
        yield started


def asked(path: Path, broken: Broken, cache: Path, compiler: Compiler | None) -> Report:
    spec = PlanSpec(path)
    return preflight(spec, None, cache, rules_only=compiler is None, compiler=compiler)


def put_right(broken: Broken, folder: Path) -> PlanSpec:
    assert broken.put_right is not None
    path = folder / "right.onnx"
    broken.put_right(path)
    name, _, sizes = broken.axes.partition("=")
    return PlanSpec(path, axes={name: AxisRange.parse(sizes, name)} if name else {})


def named(report: Report, node: str) -> list[str]:
    return [refusal.remedy for refusal in report.refusals if node in refusal.node]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_nvidia_and_the_rules_refuse_it_by_name_with_a_remedy(broken, tmp_path, cache, compiler):
    path = tmp_path / "broken.onnx"
    broken.write(path)

    report = asked(path, broken, cache, compiler)

    assert not report.passed
    remedies = named(report, broken.node)
    assert any(broken.remedy in remedy for remedy in remedies), [str(refusal) for refusal in report.refusals]
    assert broken.nvidia_knows == any(refusal.by != "rule" for refusal in report.refusals)


@pytest.mark.parametrize(
    "broken", [each for each in BROKEN if each.put_right is not None], ids=lambda broken: broken.name
)
def test_it_compiles_once_the_remedy_is_followed(broken, tmp_path, cache, compiler):
    report = preflight(put_right(broken, tmp_path), None, cache, compiler=compiler)

    assert report.passed, [str(refusal) for refusal in report.refusals]
    assert report.compiled is not None
    assert report.compiled.plan_bytes > 0


@pytest.mark.parametrize(
    "broken",
    # of the default quantisation it stops at the zero point, which is the other mistake there
    [each for each in BROKEN if each.nvidia_knows and each.name != "ONNX Runtime's default static quantisation"],
    ids=lambda broken: broken.name,
)
def test_nvidia_alone_is_understood_to_mean_that_node(broken, tmp_path, compiler):
    path = tmp_path / "broken.onnx"
    broken.write(path)
    model = onnx.load(path)
    sizes = ranges_of(input_shapes(model), BATCH, {})[0]

    refusals = explained(model, compiler.run(Job(str(path), profiles_of(input_shapes(model), sizes))))

    assert any(broken.node in refusal.node for refusal in refusals), refusals
    assert all(refusal.why and refusal.remedy for refusal in refusals)


@pytest.mark.parametrize("broken", [each for each in BROKEN if each.rules_know], ids=lambda broken: broken.name)
def test_the_rules_alone_refuse_it_by_name_with_the_remedy(broken, tmp_path, cache):
    path = tmp_path / "broken.onnx"
    broken.write(path)

    report = asked(path, broken, cache, None)

    assert any(broken.remedy in remedy for remedy in named(report, broken.node)), report.refusals
    assert {refusal.by for refusal in report.refusals} == {"rule"}


@pytest.mark.parametrize("broken", [each for each in BROKEN if each.put_right], ids=lambda broken: broken.name)
def test_the_rules_have_nothing_against_what_passes(broken, tmp_path, cache):
    assert preflight(put_right(broken, tmp_path), None, cache, rules_only=True).passed
