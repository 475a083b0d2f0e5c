"""Triton adapter: a model's outputs in, the reading or the segmentation out; what a pipeline lacks is left out."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from wetread_postprocess import InvalidGeometry, InvalidScores, load_answerer


class TritonPythonModel:
    """One instance answers by the rules of its version folder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `pipeline.json` and the novelty statistics, and check that they serve the configuration."""
        config = json.loads(args["model_config"])
        self._inputs = {tensor["name"]: tuple(map(int, tensor["dims"])) for tensor in config["input"]}
        self._outputs = {tensor["name"] for tensor in config["output"]}
        self._answerer = load_answerer(Path(args["model_repository"]) / args["model_version"])
        self._answerer.fits(self._inputs, self._outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request, in order, with the outputs it asked for."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            wanted = self._outputs & set(request.requested_output_names())
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0] for name in self._inputs}
            outputs = self._answerer.answer(inputs, wanted)
        except InvalidGeometry as error:
            return _error(str(error), "INVALID_ARG")
        except InvalidScores as error:
            return _error(str(error), "INTERNAL")
        except Exception:  # noqa: BLE001 -- the outermost loop of a request: a bug of ours must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error("postprocessing failed on this request; the server's log has the traceback", "INTERNAL")
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name][None]) for name in outputs])


def _error(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
