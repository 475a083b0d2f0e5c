"""Triton adapter: scores, activations and features in, the reading out; inputs that a pipeline lacks are left out."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from wetread_postprocess import InvalidGeometry, InvalidScores, Postprocessor


class TritonPythonModel:
    """One instance reads by the rules of its version folder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `pipeline.json` and the novelty statistics, and check that they serve the configuration."""
        config = json.loads(args["model_config"])
        self._inputs = {tensor["name"] for tensor in config["input"]}
        self._outputs = {tensor["name"] for tensor in config["output"]}
        self._postprocessor = Postprocessor.load(Path(args["model_repository"]) / args["model_version"])
        (columns,) = (int(tensor["dims"][0]) for tensor in config["input"] if tensor["name"] == "LOGITS")
        heatmap, novelty = (
            source in self._inputs and output in self._outputs
            for source, output in (("ACTIVATION", "HEATMAP"), ("FEATURES", "NOVELTY"))
        )
        self._postprocessor.fits(columns, heatmap=heatmap, novelty=novelty)
        self._card = np.frombuffer(self._postprocessor.card, np.uint8)[None]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request, in order, with the outputs it asked for."""
        return [self._respond_or_error(request) for request in requests]

    def _respond_or_error(self, request: Any) -> Any:
        try:
            return self._respond(request)
        except InvalidGeometry as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        except InvalidScores as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INTERNAL))
        except Exception:  # noqa: BLE001 -- the outermost loop of a film: a bug of ours must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            message = "postprocessing failed on this film; the server's log has the traceback"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))

    def _respond(self, request: Any) -> Any:
        wanted = self._outputs & set(request.requested_output_names())
        activation, features = (
            _input(request, name) if name in self._inputs else None for name in ("ACTIVATION", "FEATURES")
        )
        logits, geometry = _input(request, "LOGITS"), _input(request, "GEOMETRY").tobytes()
        reading = self._postprocessor.read(logits, activation, features, geometry, with_heatmap="HEATMAP" in wanted)
        outputs = {
            "PROBABILITY": reading.probability[None],
            "POSITIVE": reading.positive[None],
            "HEATMAP": reading.heatmap[None],
            "NOVELTY": reading.novelty[None],
            "CARD": self._card,
            "NOTES": np.frombuffer(reading.notes, np.uint8)[None],
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted])


def _input(request: Any, name: str) -> Any:
    """One film's input, without the batch."""
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
