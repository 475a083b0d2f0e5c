"""What an ONNX file of a model of series says of itself, and whether it runs on volumes as the pipeline sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_release.errors import BadModel
from wetread_release.new import onnx_file, trial

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from wetread_release.new.onnx_file import Tensor
    from wetread_release.wiring import Network

_RANK = 5
_SAME = 1e-3
_SEED = 0
_TENSORS = "batch, 1, a, b, c"


@dataclass(frozen=True)
class SeriesModel:
    """The tensors of the file that the pipeline uses."""

    volume: Tensor
    logits: Tensor
    mask: Tensor | None = None
    features: Tensor | None = None


def tensors_of(model: onnx.ModelProto, network: Network, scores: str, features: str, labels: int) -> SeriesModel:
    """Find the tensors of a model of series.

    Args:
        model: the file's content.
        network: what it is.
        scores: name of the output with LOGITS; empty: the only one of that shape.
        features: name of the output with FEATURES; empty: none.
        labels: of a classifier, how many scores it has.

    Raises:
        BadModel: it lacks one, or has one that the pipeline cannot fill; with the remedy.
    """
    inputs, outputs = onnx_file.inputs(model), onnx_file.outputs(model)
    volume, mask = _inputs(inputs)
    logits = onnx_file.scores_of(outputs, scores, labels) if network == "classifier" else _maps(outputs, scores)
    return SeriesModel(volume, logits, mask, onnx_file.extra_of(outputs, features, 2, "novelty, [batch, F]"))


def run(model: onnx.ModelProto, found: SeriesModel, bucket: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Run two volumes of noise together and alone, and one of another size; give LOGITS of the two.

    Raises:
        BadModel: it does not run, does not batch, or an answer depends on its neighbours; with the remedy.
    """
    import onnxruntime  # noqa: PLC0415 - heavy

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails is told below
    failures = trial.failures()
    longer = (bucket[0] * 2, bucket[1], bucket[2])
    two, other = _noise(found, 2, bucket), _noise(found, 1, longer)
    first, second = ({name: values[place : place + 1] for name, values in two.items()} for place in (0, 1))
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        alone = np.concatenate([session.run([found.logits.name], each)[0] for each in (first, second)])
        larger = session.run([found.logits.name], other)[0]
    except failures as error:
        raise BadModel(
            f"ONNX Runtime does not run the model on volumes of {list(bucket)} and {list(longer)}: "
            f"{trial.first_line(error)}"
        ) from error
    try:
        together = session.run([found.logits.name], two)[0]
    except failures as error:
        raise BadModel(
            f"the model does not run on two volumes at once ({trial.first_line(error)}): export it with an open batch "
            "axis, and no Reshape to a fixed batch"
        ) from error
    if len(found.logits.shape) == _RANK and (together.shape[2:], larger.shape[2:]) != (bucket, longer):
        raise BadModel(
            f"output {found.logits.name} is {list(together.shape)} for volumes of {list(bucket)}: a score a voxel is "
            "wanted; let the model end at its input's size"
        )
    if not np.isfinite(together).all():
        raise BadModel(f"output {found.logits.name} is not finite on noise from 0 to 1: the weights are wrong")
    if np.abs(together - alone).max() > _SAME * max(1.0, float(np.abs(alone).max())):
        raise BadModel(
            f"output {found.logits.name} of a volume depends on the volumes beside it: export the model for inference "
            "(model.eval(): batch normalisation uses its own statistics otherwise)"
        )
    return np.asarray(together, np.float32)


def _inputs(tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
    volumes = [each for each in tensors if each.element == "FLOAT"]
    masks = [each for each in tensors if each.element == "UINT8"]
    if len(volumes) != 1 or len(masks) > 1 or len(volumes) + len(masks) < len(tensors):
        raise BadModel(
            f"the model has the inputs {onnx_file.listed(tensors)}; a pipeline of series fills one of 32-bit floats "
            f"[{_TENSORS}] and, where there is one, a mask UINT8 of the same shape: fix the others as constants"
        )
    for tensor in (*volumes, *masks):
        if len(tensor.shape) != _RANK or tensor.shape[1] not in (1, onnx_file.OPEN):
            raise BadModel(f"input {tensor} is not [{_TENSORS}]: export it with five axes and one channel")
        if any(side != onnx_file.OPEN for side in tensor.shape[2:]):
            raise BadModel(
                f"input {tensor} has fixed sides, and series differ in size: export it with the last three axes open "
                "(dynamic_axes)"
            )
    return volumes[0], masks[0] if masks else None


def _maps(tensors: tuple[Tensor, ...], name: str) -> Tensor:
    fits = [each for each in tensors if len(each.shape) == _RANK and name in ("", each.name)]
    if len(fits) != 1 or fits[0].element != "FLOAT":
        raise BadModel(
            f"which output holds the scores [batch, classes, a, b, c], 32-bit floats? The model has "
            f"{onnx_file.listed(tensors)}: name it with --scores-output"
        )
    return fits[0]


def _noise(found: SeriesModel, count: int, sides: tuple[int, int, int]) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(_SEED)
    filled: dict[str, npt.NDArray[Any]] = {found.volume.name: random.random((count, 1, *sides), np.float32)}
    if found.mask is not None:
        filled[found.mask.name] = np.ones((count, 1, *sides), np.uint8)
    return filled
