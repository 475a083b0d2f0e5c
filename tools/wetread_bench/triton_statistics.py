"""Triton's own statistics of each model, between two moments."""

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class ModelUse:
    """One model's requests in a window, milliseconds a request.

    Every request of a batch is charged the batch's whole time, so these are waiting times, not costs.
    """

    requests: int
    failed: int
    mean_batch: float
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float


def statistics(url: str, models: Sequence[str]) -> dict[str, Any]:
    """What Triton has counted so far, by model."""
    found = {}
    for model in models:
        with urllib.request.urlopen(f"{url}/v2/models/{model}/stats", timeout=10) as answer:  # noqa: S310 -- our own
            found[model] = json.load(answer)["model_stats"][0]
    return found


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, ModelUse]:
    """The difference, by model."""
    return {model: _difference(before[model], after[model]) for model in after}


def _difference(before: Any, after: Any) -> ModelUse:
    def grown(*path: str) -> int:
        old, new = before, after
        for key in path:
            old, new = old.get(key, {}), new.get(key, {})
        return int(new or 0) - int(old or 0)

    requests, executions = grown("inference_count"), grown("execution_count")
    counted = max(1, grown("inference_stats", "success", "count"))
    queue, given, infer, taken = (grown("inference_stats", phase, "ns") / counted / 1e6 for phase in _PHASES)
    return ModelUse(
        requests=requests,
        failed=grown("inference_stats", "fail", "count"),
        mean_batch=requests / max(1, executions),
        queue_ms=queue,
        input_ms=given,
        infer_ms=infer,
        output_ms=taken,
    )
