"""Series on a real server: the answer of each is its own, in whatever company, and in the source's geometry."""

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from outbox import await_true
from tritonclient.utils import InferenceServerException
from volume_release import CLASSIFIER, SEGMENTER, Asker, Filling, Sent, VolumeSite, notes, phantom
from wetread_embedded import EmbeddedTriton
from wetread_models.volume_networks import level_segmenter, random_classifier
from wetread_postprocess import Segmenter
from wetread_preprocess import Request, load_preprocessor
from wetread_release.volume_pipeline import MASK

pytestmark = pytest.mark.triton

BUCKETS = {"multiple": [16, 16, 16], "fill": 0.0}
RANGE = [{"step": "resample", "spacing_mm": 1.0}, {"step": "normalise", "method": "range", "percentiles": [0, 100]}]
QUICK = {"buckets": BUCKETS, "steps": RANGE}
WAITS_US = 1_000_000
"""Long enough for a batch to gather, however busy the machine."""


def mask_alone() -> onnx.ModelProto:
    """Says class 1 where MASK is 1, and looks at nothing else."""
    shape = ["batch", 1, "a", "b", "c"]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["MASK"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["VOLUME", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "half"], ["background"]),
            helper.make_node("Concat", ["background", "mask", "nothing"], ["LOGITS"], axis=1),
        ],
        "mask alone",
        [
            helper.make_tensor_value_info("VOLUME", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("MASK", TensorProto.UINT8, shape),
        ],
        [helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, ["batch", 3, "a", "b", "c"])],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.full(1, 0.5, np.float32), "half"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> VolumeSite:
    window = [{"step": "hounsfield"}, {"step": "resample", "spacing_mm": 1.0}, {"step": "window", "name": "lung"}]
    return VolumeSite(
        tmp_path_factory.mktemp("volumes"),
        [
            Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter(), QUICK, queue_delay_us=WAITS_US),
            Filling("masked_mr", "brain_mr", replace(SEGMENTER, mask=MASK), mask_alone(), QUICK),
            Filling(
                "chest_ct",
                "chest_ct",
                CLASSIFIER,
                random_classifier(),
                {"buckets": BUCKETS, "steps": window},
                queue_delay_us=WAITS_US,
            ),
        ],
    )


@pytest.fixture(scope="module")
def triton(site: VolumeSite) -> Iterator[EmbeddedTriton]:
    with site.served(canary_interval_s=3600.0) as server:  # its requests would count among the batches
        yield server


@pytest.fixture(scope="module")
def asker(triton: EmbeddedTriton) -> Iterator[Asker]:
    made = Asker(triton)
    yield made
    made.close()


def code(refused: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(refused.value.status()).rpartition(".")[2]


def test_the_segmentation_is_the_models_own_in_the_sources_geometry(site, asker):
    tilted = np.array([[0.0, 0.3 * at, at] for at in (0, 1.5, 2, 4.5, 6, 7, 9, 10, 12, 14, 15, 17.5)])
    sent = phantom((12, 30, 36), 1, positions_mm=tilted, pixel_spacing_mm=(0.8, 0.9))
    answer = asker.ask("brain_mr", sent)

    preprocessor = load_preprocessor(site.version("brain_mr", "preprocess"))
    tensors = preprocessor.read(Request(sent.dicom, sent.lengths))
    preprocessor.close()
    session = onnxruntime.InferenceSession(site.version("brain_mr", "segmenter") / "model.onnx")
    [logits] = session.run(["LOGITS"], {"VOLUME": tensors["VOLUME"][None]})
    segmenter = Segmenter.load(site.version("brain_mr", "postprocess"))
    expected = segmenter.read(logits[0], tensors["MASK"][0], None, tensors["GEOMETRY"].tobytes())
    np.testing.assert_array_equal(answer["SEGMENTATION"], expected.labels)
    assert answer["SEGMENTATION"].shape == (12, 30, 36)
    assert set(np.unique(answer["SEGMENTATION"])) == {0, 1, 2}


def test_notes_say_what_was_done_and_the_card_is_the_pipelines(site, asker):
    sent = phantom((12, 30, 36), 2)
    answer = asker.ask("brain_mr", sent)
    told = notes(answer)
    assert set(told) == {"warnings", "left_out", "timings_ms", "geometry"}
    assert told["timings_ms"]["resample"] >= 0
    assert told["geometry"]["slices"] == 12
    assert not {"warnings", "left_out", "timings_ms"} & set(told["geometry"])
    assert answer["CARD"].tobytes() == (site.version("brain_mr", "postprocess") / "pipeline.json").read_bytes()


@pytest.mark.parametrize(
    ("pipeline", "model", "modality", "output"),
    [
        ("brain_mr", "brain_mr_segmenter", "MR", "SEGMENTATION"),
        ("chest_ct", "chest_ct_classifier", "CT", "PROBABILITY"),
    ],
)
def test_an_answer_is_the_same_alone_and_in_a_mixed_batch(asker, pipeline, model, modality, output):
    shapes = [(20, 30, 40), (18, 29, 47), (22, 31, 33), (17, 32, 48), (40, 30, 40), (33, 50, 40)]
    series = [phantom(shape, seed, modality=modality) for seed, shape in enumerate(shapes)]
    alone = [asker.ask(pipeline, sent)[output] for sent in series]
    before = asker.batches(model)
    together = [answer[output] for answer in asker.together(pipeline, series * 2)]

    for expected, got in zip(alone * 2, together, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-4)

    def shared() -> int:  # Triton counts an execution after it has answered, so one asked alone may come late
        return sum(size * (n - before.get(size, 0)) for size, n in asker.batches(model).items() if size > 1)

    await_true(lambda: shared() > 0, lambda: asker.batches(model))
    assert shared() <= len(together)
    flat = [np.ravel(answer).tolist() for answer in alone]
    assert len({str(each) for each in flat}) > 1, "the series must differ"


def test_the_mask_reaches_the_model_that_has_it(site, asker):
    text = (site.version("masked_mr", "postprocess").parent / "config.pbtxt").read_text()
    assert "MASK" not in text
    answer = asker.ask("masked_mr", phantom((12, 20, 20), 3))["SEGMENTATION"]
    assert (answer == 1).all()


def cut_short(sent):
    return {"sent": Sent(tuple(file[:200] for file in sent.files))}


def of_another_modality(_):
    return {"sent": phantom((12, 30, 36), 4, modality="CT", body_part="BRAIN")}


def of_another_part(_):
    return {"sent": phantom((12, 30, 36), 4, body_part="KNEE")}


def of_two_slices(sent):
    return {"sent": Sent(sent.files[:2])}


def lengths_too_long(sent):
    return {"sent": sent, "lengths": [*sent.lengths[:-1], sent.lengths[-1] + 1]}


def lengths_negative(sent):
    return {"sent": sent, "lengths": [-1, *sent.lengths[1:]]}


@pytest.mark.parametrize(
    ("spoil", "status", "prefix", "words"),
    [
        (cut_short, "INVALID_ARGUMENT", "InvalidDicom", "file 1"),
        (of_another_modality, "UNIMPLEMENTED", "UnsupportedImage", "Modality"),
        (of_another_part, "UNIMPLEMENTED", "UnsupportedImage", "KNEE"),
        (of_two_slices, "UNIMPLEMENTED", "UnsupportedImage", ""),
        (lengths_too_long, "INVALID_ARGUMENT", "InvalidDicom", "LENGTHS adds up to"),
        (lengths_negative, "INVALID_ARGUMENT", "InvalidDicom", "LENGTHS states -1 bytes for file 1"),
    ],
)
def test_a_bad_series_is_refused_with_its_prefix_and_code(asker, spoil, status, prefix, words):
    with pytest.raises(InferenceServerException) as refused:
        asker.ask("brain_mr", **spoil(phantom((12, 30, 36), 4)))
    assert code(refused) == status
    assert f"{prefix}: " in refused.value.message()
    assert words in refused.value.message()


def test_bad_series_never_hurt_their_neighbours(asker):
    good = [phantom((12, 30, 36), seed) for seed in range(4)]
    alone = [asker.ask("brain_mr", sent)["SEGMENTATION"] for sent in good]
    bad = of_another_modality(None)["sent"]

    with ThreadPoolExecutor(8) as pool:
        waiting = [
            pool.submit(asker.ask, "brain_mr", sent) for pair in zip(good, [bad] * 4, strict=True) for sent in pair
        ]
        for expected, answered, refused in zip(alone, waiting[::2], waiting[1::2], strict=True):
            np.testing.assert_array_equal(answered.result()["SEGMENTATION"], expected)
            assert "UnsupportedImage: " in refused.exception().message()


def test_another_body_part_is_read_when_the_request_says_so(asker):
    answer = asker.ask("brain_mr", phantom((12, 30, 36), 4, body_part="KNEE"), any_body_part=True)
    assert answer["SEGMENTATION"].any()


@pytest.fixture
def region() -> Iterator[Path]:
    path = Path("/dev/shm") / f"wetread_film_{secrets.token_hex(8)}"
    yield path
    path.unlink(missing_ok=True)


def test_a_series_in_shared_memory_is_read_where_it_lies(asker, region):
    sent = phantom((12, 30, 36), 5)
    expected = asker.ask("brain_mr", sent)["SEGMENTATION"]
    region.write_bytes(sent.dicom.tobytes() + b"beyond")
    one = np.zeros(1, np.uint8)
    reference = f"{region.name}:{len(sent.dicom)}"
    answer = asker.ask("brain_mr", sent, dicom=one, film_region=reference)
    np.testing.assert_array_equal(answer["SEGMENTATION"], expected)

    with pytest.raises(InferenceServerException) as refused:
        asker.ask("brain_mr", sent, dicom=one, film_region=f"{region.name}:{len(sent.dicom) - 1}")
    assert "LENGTHS adds up to" in refused.value.message()


def test_a_region_that_is_gone_is_not_found(asker, region):
    with pytest.raises(InferenceServerException) as refused:
        asker.ask("brain_mr", phantom((12, 30, 36), 5), dicom=np.zeros(1, np.uint8), film_region=f"{region.name}:9")
    assert code(refused) == "NOT_FOUND"


def test_only_the_outputs_that_are_asked_for_are_sent(asker):
    answer = asker.ask("chest_ct", phantom((12, 30, 36), 6, modality="CT"), outputs=["PROBABILITY", "NOTES"])
    assert set(answer) == {"PROBABILITY", "NOTES"}
    assert json.loads(answer["NOTES"].tobytes())["geometry"]["modality"] == "CT"


def test_kernels_are_kept_where_the_server_was_told(triton):
    kept = Path(os.environ["NUMBA_CACHE_DIR"])
    assert any(path.is_file() for path in kept.rglob("*"))
