"""The parts and the wiring of a film classifier's pipeline.

DICOM -> preprocess -> IMAGE -> classifier -> LOGITS [ACTIVATION] [FEATURES] -> postprocess -> the reading
"""

from dataclasses import dataclass, replace

from wetread_release.draft import Draft, DraftPart
from wetread_release.triton_config import ModelConfig, TensorConfig, Warmup
from wetread_release.wiring import ROLES, StepWires, Wiring, base_name, same_names

MAX_BATCH = 8
ONE_THREAD = (("intra_op_thread_count", "1"), ("inter_op_thread_count", "1"))
ONE_FILM = Warmup("one_film")
FILM_REGION = ("film_region", "true")
"""The request parameter is understood: a client on the same machine need not send the film's bytes."""


@dataclass(frozen=True)
class FilmSpec:
    """A film classifier as a pipeline sees it: its tensors by the names in its file, shapes without the batch."""

    image: TensorConfig
    """FP32 [channels, rows, columns] or [rows, columns, channels]; hangs on the wire IMAGE."""
    logits: TensorConfig
    """FP32 [K], scores of K classes; hangs on LOGITS."""
    findings: int
    """C of PROBABILITY and POSITIVE: at most K, a background class is no finding."""
    activation: TensorConfig | None = None
    """FP32 [K, h, w], each cell's contribution to the score. None: the pipeline has no HEATMAP."""
    features: TensorConfig | None = None
    """FP32 [F], for novelty. None: the pipeline has no NOVELTY."""
    parameters: tuple[tuple[str, str], ...] = ONE_THREAD
    """Of the classifier's backend."""
    warmup: Warmup | None = ONE_FILM
    """A version that cannot run is not loaded; costs one run a load."""


SHIPPED: dict[str, FilmSpec] = {
    "chest_xray": FilmSpec(
        image=TensorConfig("IMAGE", "FP32", (1, 224, 224)),
        logits=TensorConfig("LOGITS", "FP32", (1,)),
        findings=1,
        activation=TensorConfig("ACTIVATION", "FP32", (1, 7, 7)),
        features=TensorConfig("FEATURES", "FP32", (-1,)),
    )
}
"""The pipelines in the checkout: Git's state, which is release 1."""


def film_draft(name: str, spec: FilmSpec) -> Draft:
    """Give the draft of a film classifier named `name`, served by ONNX Runtime in FP32."""
    configs = {"preprocess": _preprocess(name, spec), "classifier": _classifier(name, spec)}
    configs["postprocess"] = _postprocess(name, spec)
    parts = tuple(DraftPart(role, configs[role], role) for role in ROLES if role in configs)
    return Draft(pipeline=name, wiring=film_wiring(spec), parts=parts)


def film_wiring(spec: FilmSpec) -> Wiring:
    """Give the ensemble: a film's bytes in, a reading out, with only the outputs that the classifier can feed."""
    image, geometry = ("IMAGE", "GEOMETRY")
    scores = tuple((wire, tensor.name) for wire, tensor in _score_wires(spec))
    outputs = _reading_tensors(spec)
    return Wiring(
        inputs=(TensorConfig("DICOM", "UINT8", (-1,)),),
        outputs=outputs,
        steps=(
            StepWires("preprocess", same_names("DICOM"), same_names(image, geometry)),
            StepWires("classifier", ((spec.image.name, image),), tuple((tensor, wire) for wire, tensor in scores)),
            StepWires(
                "postprocess",
                same_names(*(wire for wire, _ in scores), geometry),
                same_names(*(tensor.name for tensor in outputs)),
            ),
        ),
        max_batch_size=MAX_BATCH,
        parameters=(FILM_REGION,),
        comment="A film's bytes in, a reading out. The version number is the release number. Generated.",
    )


def _preprocess(name: str, spec: FilmSpec) -> ModelConfig:
    return ModelConfig(
        name=base_name(name, "preprocess"),
        backend="wetread_preprocess",
        inputs=(TensorConfig("DICOM", "UINT8", (-1,), ragged=True),),
        outputs=(replace(spec.image, name="IMAGE"), TensorConfig("GEOMETRY", "UINT8", (-1,))),
        max_batch_size=MAX_BATCH,
        instances=2,
        comment="One film a request in, the classifier's image out; films of any length share an execution. Generated.",
    )


def _classifier(name: str, spec: FilmSpec) -> ModelConfig:
    return ModelConfig(
        name=base_name(name, "classifier"),
        backend="onnxruntime",
        inputs=(spec.image,),
        outputs=tuple(tensor for _, tensor in _score_wires(spec)),
        max_batch_size=MAX_BATCH,
        instances=2,
        parameters=spec.parameters,
        warmup=spec.warmup,
        comment="The same file serves Triton's own onnxruntime backend and the embedded stand-in. Generated.",
    )


def _postprocess(name: str, spec: FilmSpec) -> ModelConfig:
    scores = tuple(replace(tensor, name=wire) for wire, tensor in _score_wires(spec))
    return ModelConfig(
        name=base_name(name, "postprocess"),
        backend="wetread_postprocess",
        inputs=(*scores, TensorConfig("GEOMETRY", "UINT8", (-1,), ragged=True)),
        outputs=_reading_tensors(spec),
        max_batch_size=MAX_BATCH,
        instances=1,
        comment="Scores to the reading. pipeline.json beside it owns every label, code and threshold. Generated.",
    )


def _score_wires(spec: FilmSpec) -> tuple[tuple[str, TensorConfig], ...]:
    """Give the classifier's outputs that the pipeline uses, each with its wire."""
    wires = (("LOGITS", spec.logits), ("ACTIVATION", spec.activation), ("FEATURES", spec.features))
    return tuple((wire, tensor) for wire, tensor in wires if tensor is not None)


def _reading_tensors(spec: FilmSpec) -> tuple[TensorConfig, ...]:
    """Give the outputs of postprocessing, which are the ensemble's."""
    tensors = [
        TensorConfig("PROBABILITY", "FP32", (spec.findings,)),
        TensorConfig("POSITIVE", "BOOL", (spec.findings,)),
    ]
    if spec.activation is not None:
        tensors.append(TensorConfig("HEATMAP", "UINT8", (spec.findings, -1, -1)))
    if spec.features is not None:
        tensors.append(TensorConfig("NOVELTY", "FP32", (1,)))
    return (*tensors, TensorConfig("CARD", "UINT8", (-1,)), TensorConfig("NOTES", "UINT8", (-1,)))
