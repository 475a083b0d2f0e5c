"""The Triton configuration of a plan: the ONNX model's tensors, the plan's batch sizes, on a GPU."""

from dataclasses import replace

from wetread_release.tensorrt.profiles import AxisRange
from wetread_release.triton_config import ModelConfig

PLAN_FILE = "model.plan"


def plan_config(config: ModelConfig, batch: AxisRange) -> ModelConfig:
    """Give the configuration of a plan that takes the place of `config`'s ONNX model.

    Args:
        config: of the part as ONNX Runtime serves it; names, types and shapes of its tensors stay.
        batch: that the plan was compiled for; Triton's batches end at its maximum and prefer its optimum.
    """
    return replace(
        config,
        backend="",
        platform="tensorrt_plan",
        model_file=PLAN_FILE,
        kind="GPU",
        max_batch_size=batch.maximum,
        preferred_batches=() if batch.optimum == batch.maximum else (batch.optimum,),
        gpu_accelerators=(),
        cpu_accelerators=(),
        parameters=(),  # threads and providers are ONNX Runtime's
        comment="A TensorRT plan, for GPUs of one kind and servers of one TensorRT version. Generated.",
    )
