"""The contract: config.pbtxt, model.onnx, pipeline.json and the recipe agree with each other and with the design."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "model_repository"
ENSEMBLE = ROOT / "ensembles" / "chest_xray"
COMPONENTS = ("chest_xray_preprocess", "chest_xray_classifier", "chest_xray_postprocess")


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


def test_the_ensemble_pins_name_and_version_of_every_step():
    steps = config(ENSEMBLE).ensemble_scheduling.step
    assert [step.model_name for step in steps] == list(COMPONENTS)
    for step in steps:
        assert step.model_version > 0
        assert (MODELS / step.model_name / str(step.model_version)).is_dir()
        assert step.model_version in config(MODELS / step.model_name).version_policy.specific.versions


def test_the_ensembles_wires_fit_the_steps_tensors():
    ensemble = config(ENSEMBLE)
    wires = tensors(ensemble.input)
    for step in ensemble.ensemble_scheduling.step:
        model = config(MODELS / step.model_name)
        inputs, outputs = tensors(model.input), tensors(model.output)
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) == set(outputs)
        for tensor, wire in step.input_map.items():
            assert wires[wire] == inputs[tensor], (step.model_name, tensor)
        wires |= {wire: outputs[tensor] for tensor, wire in step.output_map.items()}
    assert tensors(ensemble.output).items() <= wires.items()


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_batches_dynamically_and_is_served_by_number(name):
    model = config(MODELS / name)
    assert model.name == name
    assert model.HasField("dynamic_batching")
    assert model.max_batch_size == config(ENSEMBLE).max_batch_size
    assert list(model.version_policy.specific.versions)


def test_films_of_any_length_share_an_execution():
    assert config(MODELS / "chest_xray_preprocess").input[0].allow_ragged_batch


def test_the_onnx_file_has_the_tensors_of_its_config():
    model = config(MODELS / "chest_xray_classifier")
    graph = onnx.load(MODELS / "chest_xray_classifier" / "1" / "model.onnx", load_external_data=False).graph
    for theirs, ours in ((graph.input, model.input), (graph.output, model.output)):
        for value, item in zip(theirs, ours, strict=True):
            dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
            assert value.name == item.name
            assert dims[0] == -1
            for fixed, stated in zip(dims[1:], item.dims, strict=True):
                assert stated in (fixed, -1)
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_recipe_image_and_findings_have_the_shapes_of_the_config():
    recipe = json.loads((MODELS / "chest_xray_preprocess" / "1" / "recipe.json").read_text())
    image = config(MODELS / "chest_xray_classifier").input[0]
    assert tuple(image.dims) == (1, *recipe["size"])
    pipeline = json.loads((MODELS / "chest_xray_postprocess" / "1" / "pipeline.json").read_text())
    assert pipeline["pipeline"] == "chest_xray"
    assert [finding["label"] for finding in pipeline["findings"]] == ["pneumonia"]
    assert tuple(config(ENSEMBLE).output[0].dims) == (len(pipeline["findings"]),)
    assert set(pipeline["intended_use"]["modalities"]) == set(recipe["modalities"])


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
