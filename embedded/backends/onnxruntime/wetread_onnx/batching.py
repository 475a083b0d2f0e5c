"""Several requests as one run of the model, and its answers apart again."""

from collections.abc import Sequence

import numpy as np

from wetread_onnx.engines import Array, Engine, EngineError, InvalidInput
from wetread_onnx.spec import ModelSpec

Tensors = dict[str, Array]


def execute(
    engine: Engine, spec: ModelSpec, requests: Sequence[Tensors], wanted: Sequence[Sequence[str]]
) -> list[Tensors | EngineError]:
    """Answer each request with its `wanted` outputs; those of equal shapes share a run, and a bad one fails alone."""
    answers: list[Tensors | EngineError] = [EngineError("not run")] * len(requests)
    groups: dict[object, list[int]] = {}
    for index, request in enumerate(requests):
        try:
            check_shapes(engine, request)
        except InvalidInput as error:
            answers[index] = error
            continue
        groups.setdefault(_group_key(spec, index, request), []).append(index)
    for group in groups.values():
        _run_group(engine, requests, wanted, group, answers)
    return answers


def check_shapes(engine: Engine, request: Tensors) -> None:
    """Check a request against the file's own inputs: config.pbtxt may leave more open than the model does.

    Raises:
        InvalidInput: a dimension differs.
    """
    for tensor in engine.inputs:
        shape = request[tensor.name].shape
        fits = len(shape) == len(tensor.dims) and all(
            want in (-1, got) for want, got in zip(tensor.dims, shape, strict=True)
        )
        if not fits:
            msg = f"{tensor.name} has shape {list(shape)}, the model wants {list(tensor.dims)}"
            raise InvalidInput(msg)


def _group_key(spec: ModelSpec, index: int, request: Tensors) -> object:
    if spec.max_batch_size == 0:
        return index  # no dimension to join along
    return tuple((name, array.shape[1:]) for name, array in sorted(request.items()))


def _run_group(
    engine: Engine,
    requests: Sequence[Tensors],
    wanted: Sequence[Sequence[str]],
    group: Sequence[int],
    answers: list[Tensors | EngineError],
) -> None:
    outputs = sorted({name for index in group for name in wanted[index]})
    first = requests[group[0]]
    if len(group) == 1:
        joined = first
    else:
        joined = {name: np.concatenate([requests[index][name] for index in group]) for name in first}
    try:
        results = engine.run(joined, outputs)
    except EngineError as error:
        if len(group) == 1:
            answers[group[0]] = error
            return
        for index in group:  # one of them is at fault: find out which
            _run_group(engine, requests, wanted, [index], answers)
        return
    if len(group) == 1:
        answers[group[0]] = {name: results[name] for name in wanted[group[0]]}
        return
    _split(requests, wanted, group, results, answers)


def _split(
    requests: Sequence[Tensors],
    wanted: Sequence[Sequence[str]],
    group: Sequence[int],
    results: Tensors,
    answers: list[Tensors | EngineError],
) -> None:
    rows = [len(next(iter(requests[index].values()))) for index in group]
    total = sum(rows)
    wrong = [name for name, array in results.items() if array.shape[:1] != (total,)]
    start = 0
    for index, count in zip(group, rows, strict=True):
        if wrong:
            answers[index] = EngineError(f"{wrong[0]} has shape {list(results[wrong[0]].shape)} for a batch of {total}")
        else:
            answers[index] = {name: results[name][start : start + count] for name in wanted[index]}
        start += count
