"""`wetread release preflight`: what it prints, what it proves, and its exit codes."""

import json
from pathlib import Path

import onnx
import pytest
import typer
from nvidia_compiler import started_compiler
from refused_models import BROKEN, QUANTISED_WELL, model, node, sound_model
from typer.testing import CliRunner
from wetread_release.preflight_command import preflight
from wetread_release.tensorrt import libraries

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(preflight)
PASSED, REFUSED, USAGE = 0, 1, 2


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture
def nvidia(cache):
    started_compiler(cache).close()


@pytest.fixture
def run(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    return call


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.onnx"
    QUANTISED_WELL(path)
    return path


@pytest.fixture
def bad(tmp_path) -> Path:
    path = tmp_path / "bad.onnx"
    onnx.save(model([node("NonZero", ["IMAGE"], ["SCORES"], name="/find/NonZero")]), path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("nvidia")
def test_what_passes_says_for_which_shapes_and_what_that_does_not_prove(run, good):
    result = run(good, "--batch", "1,4,32")

    assert result.exit_code == PASSED
    assert "takes it and compiled it for IMAGE (1, 1, 16, 16) to (32, 1, 16, 16)" in result.output
    assert "Not proved: speed on a GPU, accuracy" in result.output
    assert "Triton's own plan" in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("nvidia")
def test_what_is_refused_stands_in_a_table_with_the_remedy(run, bad):
    result = run(bad)

    assert result.exit_code == REFUSED
    assert "/find/NonZero" in result.stdout
    assert "mark entries with a mask" in " ".join(result.stdout.replace("│", " ").split())
    assert f"wetread release preflight: {bad}: one thing is in the way" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("nvidia")
def test_json_has_every_node_and_the_figures_of_the_compile(run, good):
    document = json.loads(run(good, "--json").stdout)

    assert document["passed"] is True
    assert document["asked"].startswith("TensorRT 11")
    assert document["plan_bytes"] > 0
    assert document["profiles"] == [
        {"name": "IMAGE", "minimum": [1, 1, 16, 16], "optimum": [8, 1, 16, 16], "maximum": [16, 1, 16, 16]}
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("nvidia")
@pytest.mark.parametrize(("precision", "noise"), [("int8", True), ("fp16", False), ("fp32", False)])
def test_a_precision_that_is_made_for_the_question_says_what_it_is_made_of(run, tmp_path, precision, noise):
    path = tmp_path / "fp32.onnx"
    sound_model(path)

    result = run(path, "--precision", precision)

    assert result.exit_code == PASSED
    assert f"fp32.onnx, {precision}: TensorRT" in result.stdout
    assert ("calibrated on noise" in result.stderr) is noise


def test_a_file_in_one_precision_is_not_made_into_another(run, good):
    result = run(good, "--precision", "fp16", "--rules-only")

    assert result.exit_code == REFUSED
    assert "is int8 already and cannot be made fp16: give the FP32 file" in result.stderr


def test_nodes_of_one_kind_share_a_row(run, tmp_path):
    path = tmp_path / "asymmetric.onnx"
    next(each for each in BROKEN if each.name == "UINT8 zero points").write(path)

    result = run(path, "--rules-only")

    assert "and 1 more, see --json" in " ".join(result.stdout.replace("│", " ").split())
    assert len(json.loads(run(path, "--rules-only", "--json").stdout)["refusals"]) == 8


def test_without_the_extra_the_rules_answer_and_say_that_they_are_only_that(run, bad, good, monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda _: None)

    refused, passed = run(bad), run(good)

    assert (refused.exit_code, passed.exit_code) == (REFUSED, PASSED)
    assert "no rule is against it" in passed.stdout
    for result in (refused, passed):
        assert "Only our rules were asked" in result.stderr
        assert "make setup-tensorrt" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--batch", "many"), ("--axis", "x"), ("--axis", "x=3,2,1"), ("--precision", "fp8")]
)
def test_a_wrong_call_is_exit_code_2(run, good, arguments):
    assert run(good, *arguments).exit_code == USAGE


def test_a_file_that_is_not_there_is_a_wrong_call(run, tmp_path):
    assert run(tmp_path / "none.onnx").exit_code == USAGE


def test_help_says_what_a_compile_proves_and_what_not(run):
    text = " ".join(run("--help").stdout.replace("│", " ").split())

    assert "What a pass proves" in text
    assert "What it does not: speed on a GPU, accuracy, and Triton's own plan" in text
    assert "Without it a list of rules answers" in text
