"""What a plan's first bytes tell before a server sees it, and the configuration that Triton reads beside it."""

from contextlib import nullcontext

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from wetread_release.errors import BadModel
from wetread_release.film_pipeline import SHIPPED, film_draft
from wetread_release.tensorrt import plan_config as plan_configs
from wetread_release.tensorrt.plan import HEADER_BYTES, RTX, TENSORRT, check_plan, read_header
from wetread_release.tensorrt.plan_config import plan_config
from wetread_release.tensorrt.profiles import AxisRange, InputShape, profiles_of, ranges_of


def plan(magic: bytes, *version: int) -> bytes:
    return magic.ljust(24, b"\0") + bytes(version) + b"\0" * 100


@pytest.fixture
def saved(tmp_path):
    def save(content: bytes):
        path = tmp_path / "model.plan"
        path.write_bytes(content)
        return path

    return save


def test_a_plan_of_the_servers_version_is_taken(saved):
    header = check_plan(saved(plan(b"ftrt", 11, 4, 0, 106)), (11, 4, 0))

    assert (header.compiler, header.version_text) == (TENSORRT, "11.4.0.106")


def test_a_plan_of_another_version_is_refused_with_both_named(saved):
    with pytest.raises(BadModel, match=r"TensorRT 10\.13\.0\.35, the server has 11\.4.*--here"):
        check_plan(saved(plan(b"ftrt", 10, 13, 0, 35)), (11, 4))


@pytest.mark.parametrize(
    ("server", "compatible", "taken"),
    [((11, 9), True, True), ((11, 9), False, False), ((12, 0), True, False), ((11, 2), True, False)],
)
def test_a_version_compatible_plan_runs_on_later_minor_versions_only(saved, server, compatible, taken):
    path = saved(plan(b"ftrt", 11, 4, 0, 106))

    if taken:
        check_plan(path, server, version_compatible=compatible)
    else:
        with pytest.raises(BadModel, match="was built by"):
            check_plan(path, server, version_compatible=compatible)


def test_a_plan_of_tensorrt_for_rtx_never_reaches_triton(saved):
    with pytest.raises(BadModel, match=r"TensorRT for RTX 1\.7\.1\.116, which Triton's tensorrt backend does not read"):
        check_plan(saved(plan(b"vtrt", 1, 7, 1, 116)))


@pytest.mark.parametrize(
    "content", [b"", b"ftrt", plan(b"ftrt", 11, 4, 0, 1)[: HEADER_BYTES - 1], plan(b"PK\3\4", 11, 4, 0, 1)]
)
def test_what_is_no_plan_or_cut_off_is_refused_by_its_path(content, saved):
    path = saved(content)

    with pytest.raises(BadModel, match=f"{path} is no TensorRT plan"):
        check_plan(path)


@pytest.mark.parametrize(("installed", "refused"), [(11, False), (10, True), (0, False)])
def test_an_agent_refuses_the_plan_of_another_tensorrt_than_its_own(installed, refused, saved, monkeypatch):
    monkeypatch.setattr(plan_configs, "tensorrt_version", lambda: installed)
    onnx_part = film_draft("chest_xray", SHIPPED["chest_xray"]).part("classifier").config
    folder = saved(plan(b"ftrt", 11, 4, 0, 106)).parent

    plan_configs.refuse_wrong_plan(onnx_part, folder)
    with pytest.raises(BadModel, match="the server has 10") if refused else nullcontext():
        plan_configs.refuse_wrong_plan(plan_config(onnx_part, AxisRange(1, 8, 8)), folder)


def test_the_header_of_tensorrt_for_rtx_is_known_by_its_magic():
    assert read_header(plan(b"vtrt", 1, 7, 1, 116), "here").compiler == RTX


def test_tritons_own_message_reads_the_configuration():
    classifier = film_draft("chest_xray", SHIPPED["chest_xray"]).part("classifier").config

    config = plan_config(classifier, AxisRange(1, 8, 16))

    parsed = text_format.Parse(config.text(), model_config_pb2.ModelConfig())
    assert (parsed.platform, parsed.backend, parsed.default_model_filename) == ("tensorrt_plan", "", "model.plan")
    assert (parsed.max_batch_size, list(parsed.dynamic_batching.preferred_batch_size)) == (16, [8])
    assert parsed.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert not parsed.optimization.ListFields()
    assert not parsed.parameters
    assert [(each.name, list(each.dims)) for each in parsed.input] == [("IMAGE", [1, 224, 224])]
    assert [each.name for each in parsed.output] == [each.name for each in classifier.outputs]
    assert all(each.data_type == model_config_pb2.TYPE_FP32 for each in parsed.output)


def test_the_configuration_of_a_plan_is_no_other_engines_so_it_gets_a_name_of_its_own():
    classifier = film_draft("chest_xray", SHIPPED["chest_xray"]).part("classifier").config

    assert plan_config(classifier, AxisRange(1, 8, 8)).digest != classifier.digest


@pytest.mark.parametrize(
    ("text", "sizes"), [("16", (1, 16, 16)), ("1,16", (1, 16, 16)), ("1,8,16", (1, 8, 16)), ("4,4,4", (4, 4, 4))]
)
def test_a_range_is_smallest_best_largest(text, sizes):
    assert AxisRange.parse(text, "--batch") == sizes


@pytest.mark.parametrize("text", ["", "0", "8,1", "1,2,3,4", "many", "1,,2"])
def test_what_is_no_range_is_refused_with_an_example(text):
    with pytest.raises(BadModel, match=r"--batch .* is no range: give smallest,best,largest"):
        AxisRange.parse(text, "--batch")


def test_every_axis_that_may_differ_is_in_the_profile():
    volume = InputShape("volume", ("b", 1, "x", "y", "z"))
    axes = {"x": AxisRange(64, 128, 192), "y": AxisRange(32, 64, 96)}

    ranges, missing = ranges_of([volume], AxisRange(1, 2, 4), axes)

    assert [refusal.remedy[:20] for refusal in missing] == ["Say which: --axis z="]
    (profile,) = profiles_of([volume], {**ranges, "z": AxisRange(8, 8, 8)})
    assert (profile.minimum, profile.optimum, profile.maximum) == (
        (1, 1, 64, 32, 8),
        (2, 1, 128, 64, 8),
        (4, 1, 192, 96, 8),
    )
