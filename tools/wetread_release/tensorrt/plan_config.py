"""The Triton configuration of a plan: the ONNX model's tensors, the plan's batch sizes, on a GPU."""

from dataclasses import replace
from pathlib import Path

from wetread_release.device import tensorrt_version
from wetread_release.tensorrt.plan import check_plan
from wetread_release.tensorrt.profiles import AxisRange
from wetread_release.triton_config import ModelConfig

PLAN_FILE = "model.plan"
PLATFORM = "tensorrt_plan"


def plan_config(config: ModelConfig, batch: AxisRange) -> ModelConfig:
    """Give the configuration of a plan that takes the place of `config`'s ONNX model.

    Args:
        config: of the part as ONNX Runtime serves it; names, types and shapes of its tensors stay.
        batch: that the plan was compiled for; Triton's batches end at its maximum and prefer its optimum.
    """
    return replace(
        config,
        backend="",
        platform=PLATFORM,
        model_file=PLAN_FILE,
        kind="GPU",
        max_batch_size=batch.maximum,
        preferred_batches=() if batch.optimum == batch.maximum else (batch.optimum,),
        gpu_accelerators=(),
        cpu_accelerators=(),
        parameters=(),  # threads and providers are ONNX Runtime's
        comment="A TensorRT plan, for GPUs of one kind and servers of one TensorRT version. Generated.",
    )


def refuse_wrong_plan(config: ModelConfig, folder: Path) -> None:
    """Refuse a part whose plan this machine's server would not load, before the server sees it; other parts pass.

    Args:
        config: of the part.
        folder: of its files.

    Raises:
        BadModel: the plan is cut off, not for Triton, or of another TensorRT than this machine's (where it has one).
    """
    if config.platform == PLATFORM:
        major = tensorrt_version()
        check_plan(folder / (config.model_file or PLAN_FILE), (major,) if major else None)
