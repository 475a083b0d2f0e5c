"""How the parts of a pipeline hang together: the ensemble without names and versions of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from wetread_release.triton_config import ModelConfig, Step, TensorConfig

ROLES = ("preprocess", "classifier", "segmenter", "postprocess")
Network = Literal["classifier", "segmenter"]
NETWORKS: tuple[Network, ...] = get_args(Network)
"""The roles of which a pipeline has one: the model."""
CANDIDATE_SUFFIX = "_candidate"


@dataclass(frozen=True)
class StepWires:
    """The step of one role: (tensor, wire) each."""

    role: str
    input_map: tuple[tuple[str, str], ...]
    output_map: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Wiring:
    """An ensemble's inputs, outputs and steps, by role."""

    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    steps: tuple[StepWires, ...]
    max_batch_size: int = 8
    parameters: tuple[tuple[str, str], ...] = ()
    comment: str = ""

    def ensemble(self, name: str, release: int, pins: Mapping[str, tuple[str, int]]) -> ModelConfig:
        """Give the ensemble `name` of a release; `pins`: model name and version of each role."""
        steps = tuple(Step(*pins[step.role], step.input_map, step.output_map) for step in self.steps)
        return ModelConfig(
            name=name,
            platform="ensemble",
            inputs=self.inputs,
            outputs=self.outputs,
            max_batch_size=self.max_batch_size,
            versions=(release,),
            dynamic_batching=False,
            parameters=self.parameters,
            steps=steps,
            comment=self.comment,
        )


def same_names(*names: str) -> tuple[tuple[str, str], ...]:
    """Hang tensors on wires of the same name."""
    return tuple((name, name) for name in names)


def base_name(pipeline: str, role: str) -> str:
    """Name a component that may share its model with other releases: `chest_xray_classifier`."""
    return f"{pipeline}_{role}"


def own_name(pipeline: str, role: str, release: int) -> str:
    """Name a component whose config differs from that of the shared model: `chest_xray_classifier_r7`."""
    return f"{pipeline}_{role}_r{release}"
