"""The contract of pipelines of series: config.pbtxt, recipe and pipeline.json agree with each other and the design."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from wetread_client.card import PipelineCard
from wetread_postprocess import load_answerer
from wetread_preprocess.volumes.plain_recipes import PLAIN_RECIPES
from wetread_preprocess.volumes.recipe import KIND, VolumeRecipe
from wetread_preprocess.volumes.steps import Denoise

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "model_repository"
PIPELINES = {"brain_mr": "segmenter", "chest_ct": "classifier"}
UINT8, INT64 = model_config_pb2.TYPE_UINT8, model_config_pb2.TYPE_INT64
FP32, BOOL = model_config_pb2.TYPE_FP32, model_config_pb2.TYPE_BOOL
ANSWERS = {
    "brain_mr": {"SEGMENTATION": (UINT8, (-1, -1, -1))},
    "chest_ct": {"PROBABILITY": (FP32, (-1,)), "POSITIVE": (BOOL, (-1,))},
}


def config(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def tensors(items) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {item.name: (item.data_type, tuple(item.dims)) for item in items}


@pytest.fixture(params=PIPELINES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_ensemble_takes_and_gives_what_the_design_fixes(name: str):
    ensemble = config(ROOT / "ensembles" / name)
    assert tensors(ensemble.input) == {"DICOM": (UINT8, (-1,)), "LENGTHS": (INT64, (-1,))}
    assert tensors(ensemble.output) == ANSWERS[name] | {"CARD": (UINT8, (-1,)), "NOTES": (UINT8, (-1,))}
    assert ensemble.max_batch_size == 4


def test_the_ensembles_wires_fit_the_steps_tensors(name: str):
    ensemble = config(ROOT / "ensembles" / name)
    wires = tensors(ensemble.input)
    roles = ("preprocess", PIPELINES[name], "postprocess")
    for step, role in zip(ensemble.ensemble_scheduling.step, roles, strict=True):
        model = config(MODELS / f"{name}_{role}")
        assert (step.model_name, step.model_version) == (model.name, 1)
        assert list(model.version_policy.specific.versions) == [1]
        inputs, outputs = tensors(model.input), tensors(model.output)
        assert (set(step.input_map), set(step.output_map)) == (set(inputs), set(outputs))
        for tensor, wire in step.input_map.items():
            assert wires[wire] == inputs[tensor], (step.model_name, tensor)
        wires |= {wire: outputs[tensor] for tensor, wire in step.output_map.items()}
    assert tensors(ensemble.output).items() <= wires.items()


def test_the_rules_fill_the_outputs_that_are_configured(name: str):
    model = config(MODELS / f"{name}_postprocess")
    inputs = {tensor: dims for tensor, (_, dims) in tensors(model.input).items()}
    load_answerer(MODELS / f"{name}_postprocess" / "1").fits(inputs, set(tensors(model.output)))


def test_recipe_and_card_speak_of_the_same_series(name: str):
    recipe = VolumeRecipe.load(MODELS / f"{name}_preprocess" / "1")
    content = (MODELS / f"{name}_postprocess" / "1" / "pipeline.json").read_bytes()
    document = json.loads(content)
    assert document["pipeline"] == name
    assert set(document["intended_use"]["modalities"]) == recipe.modalities
    assert document["intended_use"]["body_part"] in recipe.body_parts
    assert not set(recipe.body_parts) & recipe.other_body_parts
    PipelineCard.parse(content)


def test_a_slot_ships_with_what_goes_into_it_and_without_a_model(name: str):
    folder = MODELS / f"{name}_{PIPELINES[name]}"
    text = (folder / "CARD.md").read_text()
    model = config(folder)
    for item in (*model.input, *model.output):
        assert f"`{item.name}`" in text
    assert (folder / "1" / ".gitkeep").is_file()


def test_no_shipped_recipe_denoises():
    files = [file for file in MODELS.glob("*/*/recipe.json") if json.loads(file.read_text()).get("kind") == KIND]
    assert {file.parents[1].name for file in files} >= {f"{name}_preprocess" for name in PIPELINES}
    recipes = {**{str(file): VolumeRecipe.load(file) for file in files}, **PLAIN_RECIPES}
    assert [name for name, recipe in recipes.items() if any(isinstance(step, Denoise) for step in recipe.steps)] == []
