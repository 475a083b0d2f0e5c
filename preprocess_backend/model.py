"""Triton adapter: files' bytes in, the recipe's tensors out; a request that cannot be read fails alone."""

from __future__ import annotations

import faulthandler
import json
import traceback
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from wetread_preprocess import FilmRegions, ImageError, Request, load_preprocessor

_SLOW_LOAD_S = 60.0


class TritonPythonModel:
    """One instance reads films or series by the recipe of its version folder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the recipe, start the decoding process."""
        faulthandler.dump_traceback_later(_SLOW_LOAD_S)  # to the server's log: a load that hangs says nothing else
        self._regions = FilmRegions()
        self._preprocessor = load_preprocessor(Path(args["model_repository"]) / args["model_version"])
        self._preprocessor.start()
        faulthandler.cancel_dump_traceback_later()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request, in order."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """End the decoding process, unmap the regions."""
        self._preprocessor.close()
        self._regions.close()

    def _respond(self, request: Any) -> Any:
        try:
            tensors = self._preprocessor.read(self._request(request))
        except ImageError as error:
            return _error(error.wire, error.triton_code)
        except Exception:  # noqa: BLE001 -- the outermost loop of a request: a bug of ours must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error("preprocessing failed on this request; the server's log has the traceback", "INTERNAL")
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, values[None]) for name, values in tensors.items()])

    def _request(self, request: Any) -> Request:
        told = json.loads(request.parameters() or "{}")
        lengths = pb_utils.get_input_tensor_by_name(request, "LENGTHS")
        counts = () if lengths is None else lengths.as_numpy().reshape(-1).tolist()
        if "film_region" in told:
            return Request(self._regions.film(str(told["film_region"])), counts, told)
        return Request(pb_utils.get_input_tensor_by_name(request, "DICOM").as_numpy().reshape(-1), counts, told)


def _error(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
