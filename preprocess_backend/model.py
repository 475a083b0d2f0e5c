"""Triton adapter: film bytes in, IMAGE and GEOMETRY out; each film that cannot be read fails alone."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from wetread_preprocess import Film, FilmOptions, FilmPreprocessor, FilmRegions, ImageError


class TritonPythonModel:
    """One instance reads films by the recipe of its version folder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the recipe, start the decoding process."""
        self._regions = FilmRegions()
        self._preprocessor = FilmPreprocessor.load(Path(args["model_repository"]) / args["model_version"])
        self._preprocessor.start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request, in order."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """End the decoding process, unmap the regions."""
        self._preprocessor.close()
        self._regions.close()

    def _respond(self, request: Any) -> Any:
        try:
            return _response(self._read(request))
        except ImageError as error:
            return _error(error.wire, error.triton_code)
        except Exception:  # noqa: BLE001 -- the outermost loop of a film: a bug of ours must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error("preprocessing failed on this film; the server's log has the traceback", "INTERNAL")

    def _read(self, request: Any) -> Film:
        told = json.loads(request.parameters() or "{}")
        options = FilmOptions(bool(told.get("declared_film", False)), bool(told.get("any_body_part", False)))
        if "film_region" in told:
            return self._preprocessor.read(self._regions.film(str(told["film_region"])), options)
        dicom: np.ndarray[Any, np.dtype[np.uint8]] = pb_utils.get_input_tensor_by_name(request, "DICOM").as_numpy()
        return self._preprocessor.read(dicom.reshape(-1), options)


def _response(film: Film) -> Any:
    geometry = np.frombuffer(film.geometry, np.uint8)[None]
    image = pb_utils.Tensor("IMAGE", film.image[None])
    return pb_utils.InferenceResponse([image, pb_utils.Tensor("GEOMETRY", geometry)])


def _error(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
