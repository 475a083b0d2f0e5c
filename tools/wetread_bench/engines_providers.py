"""ONNX Runtime's providers for accelerators: timed where this machine has them, else said to be not run."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROVIDERS = {
    "CUDAExecutionProvider": "ONNX Runtime CUDA",
    "TensorrtExecutionProvider": "ONNX Runtime TensorRT",
    "NvTensorRTRTXExecutionProvider": "ONNX Runtime TensorRT for RTX",
    "OpenVINOExecutionProvider": "ONNX Runtime OpenVINO",
}
PLAN = "TensorRT plan in Triton"


def provider_rows(files: Mapping[str, Path], batches: Sequence[int], repeats: int) -> list[dict[str, object]]:
    """Give a row a provider, file and batch."""
    there = set(ort.get_available_providers())
    rows: list[dict[str, object]] = []
    for provider, title in PROVIDERS.items():
        for precision, file in files.items():
            if provider not in there:
                rows += [_not_run(title, precision, batch, f"no {provider} here") for batch in batches]
            else:
                rows += _timed(title, provider, precision, file, batches, repeats)
    rows += [_not_run(PLAN, precision, batch, "no NVIDIA GPU here") for precision in files for batch in batches]
    return rows


def _not_run(engine: str, precision: str, batch: int, why: str) -> dict[str, object]:
    return {"engine": engine, "precision": precision, "batch": batch, "not_run": why}


def _timed(
    title: str, provider: str, precision: str, file: Path, batches: Sequence[int], repeats: int
) -> list[dict[str, object]]:
    try:
        session = ort.InferenceSession(file, providers=list(dict.fromkeys((provider, "CPUExecutionProvider"))))
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base; the row says why
        return [_not_run(title, precision, batch, str(error).splitlines()[0]) for batch in batches]
    (image,) = session.get_inputs()
    rows = []
    for batch in batches:
        films = np.random.default_rng(0).uniform(-1, 1, (batch, *image.shape[1:])).astype(np.float32)
        session.run(None, {image.name: films})
        taken = []
        for _ in range(repeats):
            started = time.perf_counter()
            session.run(None, {image.name: films})
            taken.append((time.perf_counter() - started) * 1e3)
        median = statistics.median(taken)
        ms = {"median": round(median, 3), "low": round(min(taken), 3), "high": round(max(taken), 3)}
        row: dict[str, object] = {"engine": title, "precision": precision, "batch": batch, "ms": ms}
        rows.append(row | {"films_per_s": round(1e3 * batch / median, 1)})
    return rows
