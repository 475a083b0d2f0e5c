"""The committed configurations are the generated ones, and a checkout's draft is whole."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from wetread_release.draft import Draft
from wetread_release.film_pipeline import FilmSpec, film_draft
from wetread_release.shipped_configs import shipped_drafts, shipped_files
from wetread_release.triton_config import TensorConfig
from wetread_release.volume_pipeline import MASK, VOLUME, VolumeSpec, volume_draft

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*each, id=each[0].parent.name) for each in shipped_files(ROOT)]
)
def test_a_committed_config_is_the_generated_one(path: Path, text: str):
    assert path.read_text() == text, "run `python -m wetread_release.shipped_configs`"


@pytest.mark.parametrize("name", shipped_drafts())
def test_the_committed_draft_is_the_generated_one(name: str, tmp_path: Path):
    shipped_drafts()[name].save(tmp_path)
    committed = (ROOT / "ensembles" / name / "draft.json").read_bytes()
    assert committed == (tmp_path / "draft.json").read_bytes(), "run `python -m wetread_release.shipped_configs`"


@pytest.mark.parametrize("name", shipped_drafts())
def test_the_draft_survives_being_saved_and_read(name: str, tmp_path: Path):
    draft = shipped_drafts()[name]
    draft.save(tmp_path)
    for part in draft.parts:
        (tmp_path / "parts" / part.folder).mkdir(parents=True)
    assert Draft.load(tmp_path) == draft


def test_outputs_that_the_classifier_cannot_feed_are_not_there():
    spec = FilmSpec(
        image=TensorConfig("input", "FP32", (3, 320, 320)), logits=TensorConfig("scores", "FP32", (3,)), findings=2
    )
    draft = film_draft("knee", spec)
    assert [tensor.name for tensor in draft.wiring.outputs] == ["PROBABILITY", "POSITIVE", "CARD", "NOTES"]
    pins = {part.role: (part.config.name, 1) for part in draft.parts}
    ensemble = text_format.Parse(draft.wiring.ensemble("knee", 4, pins).text(), model_config_pb2.ModelConfig())
    classifier, postprocess = ensemble.ensemble_scheduling.step[1:]
    assert dict(classifier.input_map) == {"input": "IMAGE"}
    assert dict(classifier.output_map) == {"scores": "LOGITS"}
    assert set(postprocess.input_map) == {"LOGITS", "GEOMETRY"}
    assert list(ensemble.version_policy.specific.versions) == [4]
    preprocess, _, postprocess_config = (part.config for part in draft.parts)
    assert preprocess.outputs[0] == TensorConfig("IMAGE", "FP32", (3, 320, 320))
    assert postprocess_config.inputs[0] == TensorConfig("LOGITS", "FP32", (3,))


@pytest.mark.parametrize("masked", [False, True])
def test_the_mask_goes_to_the_model_that_has_it_and_to_postprocessing_otherwise(masked: bool):
    spec = VolumeSpec(
        "segmenter", VOLUME, TensorConfig("LOGITS", "FP32", (4, -1, -1, -1)), mask=MASK if masked else None
    )
    preprocess, network, postprocess = (dict(step.input_map) for step in volume_draft("liver", spec).wiring.steps)
    assert set(preprocess) == {"DICOM", "LENGTHS"}
    assert ("MASK" in network, "MASK" in postprocess) == (masked, not masked)


def test_only_volumes_of_one_size_share_an_execution_of_the_model():
    for name in ("chest_ct", "brain_mr"):
        for part in shipped_drafts()[name].parts:
            assert not any(tensor.ragged for tensor in part.config.inputs)
            assert part.config.instances == 1
            assert part.config.dynamic_batching == (part.role in ("classifier", "segmenter"))
