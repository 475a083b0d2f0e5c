"""The contract: config.pbtxt, model.onnx, pipeline.json and the recipe agree with each other and with the design.

What holds for every pipeline is also tried on one that `wetread release new` made of somebody else's model.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_models import foreign_classifier
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner
from wetread_client.card import PipelineCard
from wetread_postprocess import Postprocessor
from wetread_preprocess import Recipe
from wetread_release.cli import app
from wetread_release.draft import Draft
from wetread_release.gate.lay_out import side_of_draft

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "model_repository"
ENSEMBLE = ROOT / "ensembles" / "chest_xray"
ROLES = ("preprocess", "classifier", "postprocess")


@dataclass(frozen=True)
class Laid:
    """A pipeline as it lies in a server's two repositories."""

    root: Path
    name: str
    """Of the ensemble."""
    ending: str = ""
    """Of its models' names."""

    @property
    def ensemble(self) -> model_config_pb2.ModelConfig:
        return config(self.root / "ensembles" / f"{self.name}{self.ending}")

    def folder(self, role: str) -> Path:
        return self.root / "model_repository" / f"{self.name}_{role}{self.ending}"

    def config(self, role: str) -> model_config_pb2.ModelConfig:
        return config(self.folder(role))

    def document(self, role: str, name: str) -> dict:
        return json.loads((self.folder(role) / "1" / name).read_text())

    @property
    def graph(self) -> onnx.GraphProto:
        return onnx.load(self.folder("classifier") / "1" / "model.onnx", load_external_data=False).graph


@pytest.fixture(scope="module")
def knee(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    """Three classes behind a softmax, one of them no finding; neither heatmap nor novelty."""
    folder = tmp_path_factory.mktemp("knee")
    (folder / "mine.onnx").write_bytes(foreign_classifier().SerializeToString())
    words = "--modality DX --body-part KNEE --labels normal,fracture,effusion --background normal --values imagenet"
    call = ["new", "knee", str(folder / "mine.onnx"), "--out", str(folder / "draft"), *words.split()]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.stderr
    side = side_of_draft(folder / "draft", Draft.load(folder / "draft"), "cpu")
    side.write(folder / "root")
    return Laid(folder / "root", "knee", "_draft")


@pytest.fixture(params=["chest_xray", "knee"])
def laid(request: pytest.FixtureRequest) -> Laid:
    """Each pipeline."""
    return request.getfixturevalue("knee") if request.param == "knee" else Laid(ROOT, "chest_xray")


def config(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def tensors(items) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {item.name: (item.data_type, tuple(item.dims)) for item in items}


FP32, UINT8, BOOL = model_config_pb2.TYPE_FP32, model_config_pb2.TYPE_UINT8, model_config_pb2.TYPE_BOOL


def test_the_ensemble_takes_and_gives_what_the_design_fixes():
    ensemble = config(ENSEMBLE)
    assert ensemble.platform == "ensemble"
    assert tensors(ensemble.input) == {"DICOM": (UINT8, (-1,))}
    assert tensors(ensemble.output) == {
        "PROBABILITY": (FP32, (1,)),
        "POSITIVE": (BOOL, (1,)),
        "HEATMAP": (UINT8, (1, -1, -1)),
        "NOVELTY": (FP32, (1,)),
        "CARD": (UINT8, (-1,)),
        "NOTES": (UINT8, (-1,)),
    }


def test_the_ensemble_pins_name_and_version_of_every_step(laid: Laid):
    steps = laid.ensemble.ensemble_scheduling.step
    assert [step.model_name for step in steps] == [laid.folder(role).name for role in ROLES]
    for step in steps:
        folder = laid.root / "model_repository" / step.model_name
        assert step.model_version > 0
        assert (folder / str(step.model_version)).is_dir()
        assert step.model_version in config(folder).version_policy.specific.versions


def test_the_ensembles_wires_fit_the_steps_tensors(laid: Laid):
    wires = tensors(laid.ensemble.input)
    for step, role in zip(laid.ensemble.ensemble_scheduling.step, ROLES, strict=True):
        model = laid.config(role)
        inputs, outputs = tensors(model.input), tensors(model.output)
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) == set(outputs)
        for tensor, wire in step.input_map.items():
            assert wires[wire] == inputs[tensor], (step.model_name, tensor)
        wires |= {wire: outputs[tensor] for tensor, wire in step.output_map.items()}
    assert tensors(laid.ensemble.output).items() <= wires.items()


@pytest.mark.parametrize("role", ROLES)
def test_a_component_batches_dynamically_and_is_served_by_number(laid: Laid, role: str):
    model = laid.config(role)
    assert model.name == laid.folder(role).name
    assert model.HasField("dynamic_batching")
    assert model.max_batch_size == laid.ensemble.max_batch_size
    assert list(model.version_policy.specific.versions)


def test_films_of_any_length_share_an_execution(laid: Laid):
    assert laid.config("preprocess").input[0].allow_ragged_batch


def test_the_onnx_file_has_the_tensors_of_its_config(laid: Laid):
    model = laid.config("classifier")
    for theirs, ours in ((laid.graph.input, model.input), (laid.graph.output, model.output)):
        for value, item in zip(theirs, ours, strict=True):
            dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
            assert value.name == item.name
            assert dims[0] == -1
            for fixed, stated in zip(dims[1:], item.dims, strict=True):
                assert stated in (fixed, -1)
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_recipe_image_and_findings_have_the_shapes_of_the_config(laid: Laid):
    assert tuple(laid.config("classifier").input[0].dims) == Recipe.load(laid.folder("preprocess") / "1").shape
    recipe, pipeline = laid.document("preprocess", "recipe.json"), laid.document("postprocess", "pipeline.json")
    assert pipeline["pipeline"] == laid.name
    assert tuple(laid.ensemble.output[0].dims) == (len(pipeline["findings"]),)
    assert set(pipeline["intended_use"]["modalities"]) == set(recipe["modalities"])


def test_the_outputs_are_those_that_the_rules_can_fill(laid: Laid):
    names = {item.name for item in laid.ensemble.output}
    (columns,) = laid.config("classifier").output[0].dims
    rules = Postprocessor.load(laid.folder("postprocess") / "1")
    rules.fits(columns, heatmap="HEATMAP" in names, novelty="NOVELTY" in names)
    assert {"PROBABILITY", "POSITIVE", "CARD", "NOTES"} <= names
    assert ("HEATMAP" in names) == any(item.name == "ACTIVATION" for item in laid.config("postprocess").input)
    assert ("NOVELTY" in names) == any(item.name == "FEATURES" for item in laid.config("postprocess").input)


def test_clients_can_read_the_card(laid: Laid):
    card = PipelineCard.parse((laid.folder("postprocess") / "1" / "pipeline.json").read_bytes())
    assert all(finding.codes for finding in card.findings)


def test_the_shipped_finding_is_the_designs():
    (finding,) = Laid(ROOT, "chest_xray").document("postprocess", "pipeline.json")["findings"]
    assert finding["label"] == "pneumonia"


def test_novelty_statistics_fit_the_models_features():
    with np.load(MODELS / "chest_xray_postprocess" / "1" / "novelty.npz") as arrays:
        features = arrays["mean"].shape
    graph = onnx.load(MODELS / "chest_xray_classifier" / "1" / "model.onnx", load_external_data=False).graph
    stated = [d.dim_value for v in graph.output if v.name == "FEATURES" for d in v.type.tensor_type.shape.dim]
    assert features == tuple(stated[1:])


def test_the_readme_names_every_tensor_of_the_ensemble():
    readme = (ROOT / "README.md").read_text()
    ensemble = config(ENSEMBLE)
    for item in (*ensemble.input, *ensemble.output):
        assert re.search(rf"`{item.name}`", readme), item.name
