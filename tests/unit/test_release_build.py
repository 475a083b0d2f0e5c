"""Building drafts: the stable release with another network, checked, quantised, measured, written down."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pydicom
import pytest
from small_network import small_network
from tiny_release import FILM_MODEL, PIPELINE, TinySite
from wetread_client.rollout import Actor, steps
from wetread_models.quantise import Int8Options
from wetread_models.synthetic import FilmModel
from wetread_release.assemble import assemble
from wetread_release.building import make as making
from wetread_release.building import timing
from wetread_release.building.accelerators import accelerators
from wetread_release.building.make import Wish, build
from wetread_release.building.record import BuildRecord
from wetread_release.building.timing import Choice, Timing
from wetread_release.digest import file_digest, folder_digests
from wetread_release.draft import Draft
from wetread_release.errors import Absent, BadDraft, BadModel
from wetread_release.gate.films import patient_hash
from wetread_release.places import Places
from wetread_release.release_site import Site
from wetread_release.signing import ensure_key
from wetread_release.tensorrt.builder import Plan, PlanKey
from wetread_release.tensorrt.jobs import Options
from wetread_release.tensorrt.plan import PlanHeader
from wetread_release.tensorrt.profiles import AxisRange

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Int8Options(calibration="minmax", float_share=0.0, probes=8)


@pytest.fixture
def tiny(tmp_path: Path) -> TinySite:
    return TinySite(tmp_path)


@pytest.fixture
def site(tiny: TinySite) -> Site:
    return Site.open(Places(tiny.state), tiny.root)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no engine: that takes a process that loads both."""
    monkeypatch.setattr(making, "choose", lambda *_: Choice("openvino", (Timing("openvino", 8, 1.0),)))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return small_network(tmp_path / "network.onnx")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    drawn = FilmModel.load(FILM_MODEL)
    for seed in range(20):
        (folder / f"{seed}.dcm").write_bytes(drawn.dicom(seed, "normal", 64, 64))
    return folder


def made(site: Site, folder: Path, wish: Wish) -> making.Built:
    return build(site, wish, folder, folder.parent / "cache", lambda _what, _done, _all: None)


@pytest.mark.slow
def test_a_build_replaces_the_network_alone_and_writes_its_engine_down(
    site: Site, network: Path, tmp_path: Path
) -> None:
    built = made(site, tmp_path / "draft", Wish(PIPELINE, network))
    draft = Draft.load(built.folder)
    part = draft.part("classifier")
    files = folder_digests(built.folder / "parts")
    assert files["classifier/model.onnx"] == file_digest(network) == built.record.model["served"]
    shipped = folder_digests(site.checkout / "model_repository")
    assert files["preprocess/recipe.json"] == shipped[f"{PIPELINE}_preprocess/1/recipe.json"]
    assert files["postprocess/pipeline.json"] == shipped[f"{PIPELINE}_postprocess/1/pipeline.json"]
    timings = built.record.choice.timings
    assert {each.engine for each in timings} == {"openvino", "onnxruntime"}
    fastest = min(timings, key=lambda each: each.median_ms).engine
    assert dict(part.config.parameters)["engine"] == built.record.choice.engine == fastest
    assert (draft.engine, draft.precision, built.record.parent) == ("onnxruntime", "fp32", 1)
    assert BuildRecord.load(built.folder) == built.record


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_int8_is_repeatable_and_build_json_names_no_patient(site, network, films, tmp_path) -> None:
    wish = Wish(PIPELINE, network, precision="int8", calibration=films, films=16, int8=QUICK)
    first, second = (made(site, tmp_path / name, wish) for name in ("one", "two"))
    assert first.record.model == second.record.model
    assert first.record.calibration == second.record.calibration
    data = first.record.calibration
    assert (data.films, data.folder, data.seed) == (16, "films", 0)
    assert first.draft.precision == "int8"
    content = (first.folder / "build.json").read_text()
    assert ".dcm" not in content
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in films.iterdir()]
    known = {patient_hash(header.PatientID) for header in headers}
    assert known.issuperset(data.patients)
    assert len(data.patients) == 16
    assert data.films_without_patient == 0
    assert any("--accelerators openvino" in remark for remark in first.remarks)


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_other_films_give_another_record(site, network, films, tmp_path) -> None:
    wish = Wish(PIPELINE, network, precision="int8", calibration=films, films=16, int8=QUICK)
    first = made(site, tmp_path / "one", wish)
    other = made(site, tmp_path / "two", replace(wish, int8=replace(QUICK, seed=1)))
    assert first.record.calibration.sha256 != other.record.calibration.sha256
    assert first.record.calibration.names_sha256 == other.record.calibration.names_sha256


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_pictures_calibrate_too_even_noise(site, network, tmp_path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(16):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    built = made(site, tmp_path / "draft", Wish(PIPELINE, network, precision="int8", calibration=folder, int8=QUICK))
    assert built.record.calibration.films_without_patient == 16


@pytest.mark.slow
def test_too_few_films_and_a_folder_without_any_are_refused(site, network, films, tmp_path) -> None:
    for path in sorted(films.iterdir())[10:]:
        path.unlink()
    wish = Wish(PIPELINE, network, precision="int8", calibration=films, int8=QUICK)
    with pytest.raises(BadModel, match=r"holds 10 films: ranges want 16 at least"):
        made(site, tmp_path / "draft", wish)
    shutil.rmtree(films)
    films.mkdir()
    with pytest.raises(Absent, match="holds no DICOM file"):
        made(site, tmp_path / "draft", wish)


@pytest.mark.usefixtures("unmeasured")
def test_a_build_starts_from_the_stable_release(site: Site, tiny: TinySite, network: Path, tmp_path: Path) -> None:
    ensure_key(site.keys)
    changed = tiny.draft(1.0)
    recipe = changed / "parts" / "preprocess" / "recipe.json"
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"min_side": 9}))
    made_by = Actor("ada", "better", "grace")
    release = assemble(changed, site.registry, None, 4, "a test", made_by, keys=site.keys, into=tmp_path / "four")
    site.registry.put(PIPELINE, 4, release.folder)
    adopted = replace(steps.adopt(steps.begin(PIPELINE), 4, made_by), highest=4)
    site.rollouts.write(adopted)
    built = made(site, tmp_path / "draft", Wish(PIPELINE, network))
    assert built.record.parent == 4
    assert (built.folder / "parts" / "preprocess" / "recipe.json").read_text() == recipe.read_text()
    assert {part.config.name for part in built.draft.parts} == {f"{PIPELINE}_{part.role}" for part in built.draft.parts}
    assert not (built.folder / "gate").exists()


def test_a_changed_release_is_no_parent(site: Site, tiny: TinySite, network: Path, tmp_path: Path) -> None:
    ensure_key(site.keys)
    made_by = Actor("ada", "better", "grace")
    release = assemble(tiny.draft(1.0), site.registry, None, 4, "", made_by, keys=site.keys, into=tmp_path / "four")
    site.registry.put(PIPELINE, 4, release.folder)
    site.rollouts.write(replace(steps.adopt(steps.begin(PIPELINE), 4, made_by), highest=4))
    (model,) = (tiny.state / "releases").rglob("model.onnx")
    model.chmod(0o644)
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BadDraft, match="was changed"):
        made(site, tmp_path / "draft", Wish(PIPELINE, network))
    assert not list(tmp_path.glob("*draft*release*"))


def test_a_folder_that_is_there_stays_and_a_failed_build_leaves_nothing(site, network, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadDraft, match="is there: remove it"):
        made(site, tmp_path / "mine", Wish(PIPELINE, network))
    wide = small_network(tmp_path / "wide.onnx", side=32)
    with pytest.raises(BadModel):
        made(site, tmp_path / "draft", Wish(PIPELINE, wide))
    assert not [path for path in tmp_path.iterdir() if "draft" in path.name]


@pytest.mark.usefixtures("unmeasured")
def test_a_file_keeps_its_precision_and_goes_back_to_none_before_it(site, network, tmp_path) -> None:
    half = made(site, tmp_path / "half", Wish(PIPELINE, network, precision="fp16"))
    assert (half.draft.precision, half.record.quantised) == ("fp16", None)
    file = half.folder / "parts" / "classifier" / "model.onnx"
    assert made(site, tmp_path / "again", Wish(PIPELINE, file)).draft.precision == "fp16"
    with pytest.raises(BadModel, match="is fp16 already and cannot be made int8: give the FP32 file"):
        made(site, tmp_path / "eighth", Wish(PIPELINE, file, precision="int8"))


@pytest.mark.usefixtures("unmeasured")
def test_accelerators_stand_in_the_configuration_and_those_lacking_here_are_told(site, network, tmp_path) -> None:
    wish = Wish(PIPELINE, network, accelerators=("tensorrt", "cuda", "openvino", "cpu"))
    built = made(site, tmp_path / "draft", wish)
    config = built.draft.part("classifier").config
    assert [each.name for each in config.gpu_accelerators] == ["tensorrt", "cuda"]
    assert [each.name for each in config.cpu_accelerators] == ["openvino"]
    assert "KIND_AUTO" in config.text()
    assert any("tensorrt, cuda" in remark for remark in built.remarks)


@pytest.mark.parametrize(("names", "told"), [(("cuda", "cpu", "openvino"), "comes last"), (("gpu",), "at most once")])
def test_accelerators_that_make_no_sense_are_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(BadModel, match=told):
        accelerators(names)


def test_the_faster_engine_is_told_with_its_gain_over_the_same_engine() -> None:
    own = (Timing("openvino", 8, 20.0), Timing("onnxruntime", 8, 90.0))
    source = (Timing("openvino", 8, 30.0), Timing("onnxruntime", 8, 10.0))
    assert Choice("openvino", own, source).speedup == 1.5
    assert Choice("openvino", own).speedup == 0.0
    assert Choice("openvino", (Timing("openvino", 8, error="no"), own[1]), source).speedup == 0.0


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A stand-in for a plan that TensorRT made on a server's GPU; none is here."""
    file = tmp_path / "cached.plan"
    file.write_bytes(b"ftrt" + bytes(20) + bytes((11, 1, 0, 0)))
    key = PlanKey("sm_90", "TensorRT", "11.1.0", "0" * 64, "1" * 64)
    made = Plan(file, key, PlanHeader("TensorRT", (11, 1, 0, 0)), 28, file_digest(file), 0.1, 0.2, AxisRange(1, 8, 8))
    monkeypatch.setattr(making, "build_plan", lambda _spec, _cache: made)
    monkeypatch.setattr(making, "this_target", lambda: "sm_90-trt11")
    return made


def test_a_plan_is_for_one_target_and_the_file_for_all_others(site, network, plan, tmp_path) -> None:
    built = made(site, tmp_path / "draft", Wish(PIPELINE, network, engine="tensorrt"))
    draft = built.draft
    assert draft.targets == ("sm_90-trt11",)
    own = draft.part("classifier", "sm_90-trt11")
    others = next(part for part in draft.parts if part.role == "classifier" and part.target == "any")
    files = folder_digests(built.folder / "parts")
    assert (own.config.platform, own.config.backend) == ("tensorrt_plan", "")
    assert files[f"{own.folder}/model.plan"] == file_digest(plan.path) == built.record.model["served"]
    assert files[f"{others.folder}/model.onnx"] == file_digest(network)
    assert (draft.engine, built.record.target) == ("tensorrt", "sm_90-trt11")


def test_here_adds_a_plan_to_what_the_stable_release_runs(site, plan, tmp_path) -> None:
    built = made(site, tmp_path / "draft", Wish(PIPELINE, None, engine="tensorrt"))
    shipped = folder_digests(site.checkout / "model_repository")
    files = folder_digests(built.folder / "parts")
    assert files["classifier/model.onnx"] == shipped[f"{PIPELINE}_classifier/1/model.onnx"]
    assert files["classifier-sm_90-trt11/model.plan"] == file_digest(plan.path)
    assert built.draft.part("classifier", "cpu").config.backend == "onnxruntime"


def test_a_version_compatible_plan_is_asked_for_and_its_condition_told(
    site, network, plan, tmp_path, monkeypatch
) -> None:
    asked = []
    monkeypatch.setattr(making, "build_plan", lambda spec, _cache: asked.append(spec) or plan)
    wish = Wish(PIPELINE, network, engine="tensorrt", plan=Options(version_compatible=True, hardware_compatible=True))
    built = made(site, tmp_path / "draft", wish)
    (spec,) = asked
    assert (spec.options, spec.batch) == (wish.plan, AxisRange(1, 8, 8))
    assert any("version-compatible=true" in remark for remark in built.remarks)


def test_the_card_says_what_was_built_once(site: Site, network: Path, unmeasured: None, tmp_path: Path) -> None:
    site.checkout.joinpath("model_repository", f"{PIPELINE}_classifier", "CARD.md").write_text(
        "# The card\n\nFigures.\n\n## This build\n\nAn older one.\n"
    )
    card = (made(site, tmp_path / "draft", Wish(PIPELINE, network, precision="fp16")).folder / "CARD.md").read_text()
    assert card.startswith("# The card\n\nFigures.\n")
    assert card.count("## This build") == 1
    assert "FP16 for onnxruntime, built from release 1" in card
    assert "older" not in card


def test_without_the_embedded_engines_none_is_written_down(site, network, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(timing, "_BACKEND", tmp_path / "nowhere")
    built = made(site, tmp_path / "draft", Wish(PIPELINE, network))
    assert "engine" not in dict(built.draft.part("classifier").config.parameters)
    assert any("none was measured" in remark for remark in built.remarks)


def test_a_plan_that_triton_does_not_read_makes_no_draft(site, network, plan, tmp_path, monkeypatch) -> None:
    rtx = replace(plan, header=PlanHeader("TensorRT for RTX", (1, 7, 1, 0)))
    monkeypatch.setattr(making, "build_plan", lambda _spec, _cache: rtx)
    with pytest.raises(BadModel, match="proves the ONNX file only"):
        made(site, tmp_path / "draft", Wish(PIPELINE, network, engine="tensorrt"))
    assert not (tmp_path / "draft").exists()


def test_a_step_took_the_time_between_its_begin_and_its_end(monkeypatch):
    seconds, clock = making._Seconds(), iter((10.0, 32.5))
    with monkeypatch.context() as timed:
        timed.setattr(making, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        with seconds.of("compile"):
            pass
    assert seconds == {"compile": 22.5}
