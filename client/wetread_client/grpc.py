"""KServe v2 over gRPC, by tritonclient; it costs several times the CPU of HTTP for a film's bytes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_client.errors import ServerError, Status, Unavailable, WetreadError, translate
from wetread_client.transport import DICOM, LENGTHS, InferAnswer, InferRequest, RegionSlice

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.endpoint import Endpoint


class GrpcTransport:
    """Films over gRPC, all requests on one HTTP/2 connection.

    `ca`: a PEM file with the authorities to trust instead of the system's.
    ImportError, naming the extra, where tritonclient is not installed.
    """

    def __init__(self, endpoint: Endpoint, ca: Path | None = None) -> None:
        try:
            self._triton: Any = importlib.import_module("tritonclient.grpc")
        except ImportError as error:
            raise ImportError("gRPC needs tritonclient: pip install 'wetread[client]'", name=error.name) from error
        self._failure: Any = importlib.import_module("tritonclient.utils").InferenceServerException
        self._closed = False
        self._where = f"{endpoint.scheme}://{endpoint.netloc}"
        self._client = self._triton.InferenceServerClient(
            endpoint.netloc, ssl=endpoint.is_encrypted, root_certificates=None if ca is None else str(ca)
        )

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        """Send one film or series and wait for its answer."""
        tensor = self._triton.InferInput(DICOM, [1, request.film.size], "UINT8")
        if isinstance(request.film, RegionSlice):
            tensor.set_shared_memory(request.film.region, request.film.size)
        else:
            tensor.set_data_from_numpy(np.frombuffer(request.film.view(), np.uint8)[None])
        tensors = [tensor]
        if request.lengths:
            lengths = self._triton.InferInput(LENGTHS, [1, len(request.lengths)], "INT64")
            tensors.append(lengths.set_data_from_numpy(np.array([request.lengths], np.int64)))
        result = self._call(
            "infer",
            request.model,
            tensors,
            outputs=[self._triton.InferRequestedOutput(name) for name in request.outputs],
            parameters=dict(request.parameters) or None,
            timeout_s=timeout_s,
        )
        version = int(result.get_response().model_version)
        return InferAnswer(version, {name: result.as_numpy(name) for name in request.outputs})

    def is_live(self, timeout_s: float) -> bool:
        """Say whether a server answers at all; False when nothing listens there."""
        return self._probe("is_server_live", timeout_s)

    def is_ready(self, model: str, timeout_s: float) -> bool:
        """Say whether the server serves `model` now."""
        return self._probe("is_model_ready", timeout_s, model)

    def versions(self, model: str, timeout_s: float) -> tuple[int, ...]:
        """Give the versions of `model` that the server serves; of a pipeline these are releases."""
        metadata = self._call("get_model_metadata", model, timeout_s=timeout_s)
        return tuple(sorted(int(version) for version in metadata.versions))

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        """Give the names of the outputs that `model` has, of this version or of the one that answers now."""
        which = "" if version is None else str(version)
        metadata = self._call("get_model_metadata", model, which, timeout_s=timeout_s)
        return frozenset(str(output.name) for output in metadata.outputs)

    def inputs(self, model: str, timeout_s: float) -> frozenset[str]:
        """Give the names of the inputs that `model` has; with LENGTHS it takes a series, else a film."""
        metadata = self._call("get_model_metadata", model, timeout_s=timeout_s)
        return frozenset(str(tensor.name) for tensor in metadata.inputs)

    def parameter(self, model: str, key: str, timeout_s: float) -> str | None:
        """Give a parameter of the model's configuration, None where it has none of that name."""
        parameters = self._call("get_model_config", model, timeout_s=timeout_s).config.parameters
        return str(parameters[key].string_value) if key in parameters else None

    def register_region(self, name: str, key: str, size: int, timeout_s: float) -> None:
        """Register the POSIX region `key` of `size` bytes under `name`."""
        self._call("register_system_shared_memory", name, key, size, timeout_s=timeout_s)

    def unregister_region(self, name: str, timeout_s: float) -> None:
        """Make the server forget the region; no error where it knows none."""
        self._call("unregister_system_shared_memory", name, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._client.close()

    def _probe(self, method: str, timeout_s: float, *arguments: str) -> bool:
        try:
            return bool(self._call(method, *arguments, timeout_s=timeout_s))
        except Unavailable:
            return False

    def _call(self, method: str, *arguments: object, timeout_s: float, **named: object) -> Any:
        if self._closed:
            raise Unavailable(Status.CANCELLED.value, "the client is closed")
        if timeout_s <= 0:
            raise Unavailable(Status.DEADLINE_EXCEEDED.value, f"no answer from {self._where} in time")
        try:
            return getattr(self._client, method)(*arguments, client_timeout=timeout_s, **named)
        except self._failure as failure:
            raise self._explain(failure) from failure

    def _explain(self, failure: Any) -> WetreadError:
        name = str(failure.status() or "").removeprefix("StatusCode.")
        if name not in Status.__members__:  # raised by tritonclient itself, before or after the call
            return ServerError(Status.UNKNOWN.value, str(failure.message()))
        error = translate(Status[name], str(failure.message()))
        if error.code == Status.DEADLINE_EXCEEDED.value:
            error.message = f"no answer from {self._where} in time"
        return error
