"""Execution accelerators of Triton's own onnxruntime backend, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wetread_release.errors import BadModel
from wetread_release.triton_config import Accelerator, ModelConfig

# name: (ONNX Runtime's provider, a GPU's), https://github.com/triton-inference-server/onnxruntime_backend
_PROVIDERS = {
    "tensorrt": ("TensorrtExecutionProvider", True),
    "cuda": ("CUDAExecutionProvider", True),
    "openvino": ("OpenVINOExecutionProvider", False),
}
CPU = "cpu"
NAMES = (*_PROVIDERS, CPU)
ALL = ",".join(NAMES)


@dataclass(frozen=True)
class Accelerators:
    """For config.pbtxt; ONNX Runtime's own CPU kernels come last by themselves."""

    gpu: tuple[Accelerator, ...] = ()
    cpu: tuple[Accelerator, ...] = ()
    lacking: tuple[str, ...] = ()
    """Those that this machine's ONNX Runtime does not have: it cannot be tried here."""


def accelerators(names: tuple[str, ...]) -> Accelerators:
    """Give the accelerators by their names, in order.

    Raises:
        BadModel: an unknown name, one twice, or `cpu` before another, which would then never be reached.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown or len(set(names)) < len(names):
        raise BadModel(f"--accelerators {','.join(names)}: each of {ALL} at most once, in the order to try")
    if CPU in names[:-1]:
        raise BadModel(f"--accelerators {','.join(names)}: cpu takes every node, so it comes last")
    import onnxruntime  # noqa: PLC0415 - heavy

    there = set(onnxruntime.get_available_providers())
    chosen = [name for name in names if name != CPU]
    return Accelerators(
        tuple(Accelerator(name) for name in chosen if _PROVIDERS[name][1]),
        tuple(Accelerator(name) for name in chosen if not _PROVIDERS[name][1]),
        tuple(name for name in chosen if _PROVIDERS[name][0] not in there),
    )


def accelerated(config: ModelConfig, fast: Accelerators) -> ModelConfig:
    """Give a configuration with accelerators; those of a GPU want instances on one where there is one."""
    return replace(
        config, gpu_accelerators=fast.gpu, cpu_accelerators=fast.cpu, kind="AUTO" if fast.gpu else config.kind
    )
