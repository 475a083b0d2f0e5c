"""The parts and the wiring of a pipeline that reads series; its model's slot is empty where Git has no such model.

    DICOM, LENGTHS -> preprocess -> VOLUME, MASK -> classifier or segmenter -> LOGITS [FEATURES] -> postprocess

MASK goes to the model where it has that input, otherwise to postprocessing.
"""

from dataclasses import dataclass, replace

from wetread_release.draft import Draft, DraftPart
from wetread_release.film_pipeline import FILM_REGION
from wetread_release.triton_config import ModelConfig, TensorConfig, Warmup
from wetread_release.wiring import ROLES, Network, StepWires, Wiring, base_name, same_names

MAX_BATCH = 4
"""Volumes that share an execution: a model's activations, not its weights, fill the memory."""
TWO_THREADS = (("intra_op_thread_count", "2"), ("inter_op_thread_count", "1"))
"""One instance, which has a whole series' work to do."""
ONE_VOLUME = Warmup("one_volume", open_side=32)
BYTES = (-1,)


@dataclass(frozen=True)
class VolumeSpec:
    """A model of series as a pipeline sees it: its tensors by the names in its file, shapes without the batch."""

    network: Network
    volume: TensorConfig
    """FP32 [1, a, b, c]; hangs on the wire VOLUME."""
    logits: TensorConfig
    """FP32 [S, a, b, c] of a segmenter, [K] of a classifier; hangs on LOGITS."""
    mask: TensorConfig | None = None
    """UINT8 [1, a, b, c], 1 where VOLUME comes from a slice. None: postprocessing gets it."""
    features: TensorConfig | None = None
    """FP32 [F], for novelty. None: the pipeline has no NOVELTY."""
    findings: int = -1
    """C of a classifier's PROBABILITY and POSITIVE; -1: as many as pipeline.json says."""
    parameters: tuple[tuple[str, str], ...] = TWO_THREADS
    """Of the model's backend."""
    warmup: Warmup | None = ONE_VOLUME
    """A version that cannot run is not loaded; costs one run a load."""


VOLUME = TensorConfig("VOLUME", "FP32", (1, -1, -1, -1))
MASK = TensorConfig("MASK", "UINT8", (1, -1, -1, -1))
GEOMETRY = TensorConfig("GEOMETRY", "UINT8", BYTES)

SHIPPED: dict[str, VolumeSpec] = {
    "brain_mr": VolumeSpec(
        network="segmenter",
        volume=replace(VOLUME, name="volume"),
        logits=TensorConfig("logits", "FP32", (3, -1, -1, -1)),
    ),
    "chest_ct": VolumeSpec(network="classifier", volume=VOLUME, logits=TensorConfig("LOGITS", "FP32", (-1,))),
}
"""The pipelines in the checkout whose models a site puts in itself; the tensors are those that a copied file needs."""


def volume_draft(name: str, spec: VolumeSpec) -> Draft:
    """Give the draft of a pipeline named `name`, its model served by ONNX Runtime in FP32."""
    configs = {
        "preprocess": _preprocess(name),
        spec.network: _network(name, spec),
        "postprocess": _postprocess(name, spec),
    }
    parts = tuple(DraftPart(role, configs[role], role) for role in ROLES if role in configs)
    return Draft(pipeline=name, wiring=volume_wiring(spec), parts=parts)


def volume_wiring(spec: VolumeSpec) -> Wiring:
    """Give the ensemble: a series' files in, a reading or a segmentation out."""
    outputs = _outputs(spec)
    answers = _answers(spec)
    to_model = ((spec.volume.name, "VOLUME"), *(((spec.mask.name, "MASK"),) if spec.mask else ()))
    to_postprocess = [wire for wire, _ in answers] + ([] if spec.mask else ["MASK"]) + ["GEOMETRY"]
    return Wiring(
        inputs=(TensorConfig("DICOM", "UINT8", BYTES), TensorConfig("LENGTHS", "INT64", (-1,))),
        outputs=outputs,
        steps=(
            StepWires("preprocess", same_names("DICOM", "LENGTHS"), same_names("VOLUME", "MASK", "GEOMETRY")),
            StepWires(spec.network, to_model, tuple((tensor.name, wire) for wire, tensor in answers)),
            StepWires("postprocess", same_names(*to_postprocess), same_names(*(tensor.name for tensor in outputs))),
        ),
        max_batch_size=MAX_BATCH,
        parameters=(FILM_REGION,),
        comment="A series' files end to end, and the bytes of each; a reading out. The version number is the release "
        "number. Generated.",
    )


def is_for_series(wiring: Wiring) -> bool:
    """Tell a pipeline of series from one of films, as clients do: by its input LENGTHS."""
    return any(tensor.name == "LENGTHS" for tensor in wiring.inputs)


def _preprocess(name: str) -> ModelConfig:
    return ModelConfig(
        name=base_name(name, "preprocess"),
        backend="wetread_preprocess",
        inputs=(TensorConfig("DICOM", "UINT8", BYTES), TensorConfig("LENGTHS", "INT64", (-1,))),
        outputs=(VOLUME, MASK, GEOMETRY),
        max_batch_size=MAX_BATCH,
        instances=1,
        dynamic_batching=False,
        comment="One series at a time, with all cores: that bounds the memory. Generated.",
    )


def _network(name: str, spec: VolumeSpec) -> ModelConfig:
    return ModelConfig(
        name=base_name(name, spec.network),
        backend="onnxruntime",
        inputs=(spec.volume, *((spec.mask,) if spec.mask else ())),
        outputs=tuple(tensor for _, tensor in _answers(spec)),
        max_batch_size=MAX_BATCH,
        instances=1,
        parameters=spec.parameters,
        warmup=spec.warmup,
        comment="Volumes of one size share an execution: nothing here is ragged. Generated.",
    )


def _postprocess(name: str, spec: VolumeSpec) -> ModelConfig:
    answers = tuple(replace(tensor, name=wire) for wire, tensor in _answers(spec))
    return ModelConfig(
        name=base_name(name, "postprocess"),
        backend="wetread_postprocess",
        inputs=(*answers, *(() if spec.mask else (MASK,)), GEOMETRY),
        outputs=_outputs(spec),
        max_batch_size=MAX_BATCH,
        instances=1,
        dynamic_batching=False,
        comment="pipeline.json beside it owns every label, code and threshold. Generated.",
    )


def _answers(spec: VolumeSpec) -> tuple[tuple[str, TensorConfig], ...]:
    """Give the model's outputs that the pipeline uses, each with its wire."""
    wires = (("LOGITS", spec.logits), ("FEATURES", spec.features))
    return tuple((wire, tensor) for wire, tensor in wires if tensor is not None)


def _outputs(spec: VolumeSpec) -> tuple[TensorConfig, ...]:
    """Give the outputs of postprocessing, which are the ensemble's."""
    if spec.network == "segmenter":
        tensors = [TensorConfig("SEGMENTATION", "UINT8", (-1, -1, -1))]
    else:
        tensors = [
            TensorConfig("PROBABILITY", "FP32", (spec.findings,)),
            TensorConfig("POSITIVE", "BOOL", (spec.findings,)),
        ]
    if spec.features is not None:
        tensors.append(TensorConfig("NOVELTY", "FP32", (1,)))
    return (*tensors, TensorConfig("CARD", "UINT8", BYTES), TensorConfig("NOTES", "UINT8", BYTES))
