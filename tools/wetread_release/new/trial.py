"""The model run once in ONNX Runtime: that it batches, keeps its films apart and gives scores of the kind it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wetread_release.errors import BadModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import onnx

    from wetread_release.new.hints import Scores
    from wetread_release.new.onnx_file import Image

_FILMS = 3
_SEED = 0
_SAME = 1e-3
"""A film's scores alone and among others: engines round differently, other films do not shine through."""
_SUMS_TO_ONE = 1e-3

Outputs = dict[str, "npt.NDArray[np.float32]"]


def open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a copy of a model made for one batch size with that axis open; `run` shows whether it batches."""
    import onnx  # noqa: PLC0415 - heavy

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {each.name for each in model.graph.initializer}
    for value in (*opened.graph.input, *opened.graph.output):
        if value.name not in given and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del opened.graph.value_info[:]  # the shapes between the layers were those of the fixed batch
    return opened


def run(model: onnx.ModelProto, image: Image, size: tuple[int, int], span: tuple[float, float]) -> Outputs:
    """Run three films of noise within `span` together and one by one; give their outputs [3, ...] by name.

    Raises:
        BadModel: it does not run, does not batch, or a film's answer depends on its neighbours; with the remedy.
    """
    import onnxruntime  # noqa: PLC0415 - heavy

    films = np.random.default_rng(_SEED).uniform(*span, (_FILMS, *image.shape(size))).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails is told below
    names = [value.name for value in model.graph.output]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        single = [_run(session, names, image.name, film[None]) for film in films]
    except failures() as error:
        raise BadModel(f"ONNX Runtime does not run the model: {first_line(error)}") from error
    try:
        together = _run(session, names, image.name, films)
    except failures() as error:
        raise BadModel(
            f"the model does not run on several films at once ({first_line(error)}): export it with an open batch "
            "axis (torch.onnx.export(..., dynamic_axes={...: {0: 'batch'}})), and no Reshape to a fixed batch"
        ) from error
    for name, value in together.items():
        alone = np.concatenate([each[name] for each in single])
        if value.shape != alone.shape:
            raise BadModel(
                f"output {name} is {list(value.shape)} for {_FILMS} films: its first axis is not the batch; export it "
                "with one answer a film"
            )
        if not np.isfinite(value).all():
            raise BadModel(f"output {name} is not finite on noise: the weights or --values are wrong")
        if np.abs(value - alone).max() > _SAME * max(1.0, float(np.abs(alone).max())):
            raise BadModel(
                f"output {name} of a film depends on the films beside it: export the model for inference "
                "(model.eval(): batch normalisation uses its own statistics otherwise)"
            )
    return together


def check_scores(scores: npt.NDArray[np.float32], labels: int, kind: Scores) -> None:
    """Check scores [films, K] against the kind they are said to be.

    Raises:
        BadModel: another number of labels, or no probabilities.
    """
    if scores.shape[1:] != (labels,):
        raise BadModel(f"the scores are {list(scores.shape)} for {len(scores)} films; --labels names {labels}")
    if kind == "probabilities" and not ((scores >= 0) & (scores <= 1)).all():
        raise BadModel(
            f"the scores are no probabilities: they reach from {scores.min():g} to {scores.max():g}; they may be "
            "logits (--scores logits) or logits of classes that exclude each other (--scores class_logits)"
        )


def exclusive(scores: npt.NDArray[np.float32]) -> bool:
    """Say whether probabilities [films, K] are those of classes that exclude each other."""
    return scores.shape[1] > 1 and bool(np.abs(scores.sum(axis=1) - 1).max() < _SUMS_TO_ONE)


def _run(session: object, names: Sequence[str], image: str, films: npt.NDArray[np.float32]) -> Outputs:
    return dict(zip(names, session.run(list(names), {image: films}), strict=True))  # type: ignore[attr-defined]


def failures() -> tuple[type[Exception], ...]:
    """Give what ONNX Runtime raises for a model that it cannot run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return tuple(getattr(state, name) for name in names)


def first_line(error: Exception) -> str:
    """Give what an error says without the rest."""
    return str(error).strip().splitlines()[0]
