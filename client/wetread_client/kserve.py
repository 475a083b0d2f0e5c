"""The KServe v2 inference protocol with Triton's binary tensors: request headers out, answers in."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from wetread_client.errors import ServerError, Status
from wetread_client.transport import DICOM, LENGTHS, InferAnswer, InferRequest, RegionSlice

if TYPE_CHECKING:
    from numpy.typing import NDArray

# https://github.com/kserve/open-inference-protocol, "Tensor Data Types"; BYTES and BF16 are in no output of ours
DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

_SIZE = "<size>"


class _Parameters(TypedDict, total=False):
    binary_data_size: int


class _Output(TypedDict, total=False):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters
    data: list[float]


class _Answer(TypedDict, total=False):
    model_version: str
    outputs: list[_Output]


@lru_cache(maxsize=256)  # a client uses a handful; the bound guards against callers with ever new parameters
def _template(
    outputs: tuple[str, ...], parameters: tuple[tuple[str, bool | str], ...], region: str | None, *, is_series: bool
) -> bytes:
    """Build the request's JSON with two %d left for the film's size: it is all that differs from film to film.

    Of a series two more follow, for how many files there are and the bytes of their lengths.
    """
    inline = {"binary_data_size": _SIZE}
    where = inline
    if region is not None:
        where = {"shared_memory_region": region, "shared_memory_byte_size": _SIZE}
    inputs = [{"name": DICOM, "shape": [1, _SIZE], "datatype": "UINT8", "parameters": where}]
    if is_series:
        inputs.append({"name": LENGTHS, "shape": [1, _SIZE], "datatype": "INT64", "parameters": inline})
    document = {
        "inputs": inputs,
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        "parameters": dict(parameters),
    }
    text = json.dumps(document, separators=(",", ":")).replace("%", "%%")
    return text.replace(json.dumps(_SIZE), "%d").encode()


def request_header(request: InferRequest) -> bytes:
    """Give the JSON in front of the film's bytes, or that names the region where they lie."""
    region = request.film.region if isinstance(request.film, RegionSlice) else None
    sizes = (request.film.size, request.film.size)
    if not request.lengths:
        return _template(request.outputs, request.parameters, region, is_series=False) % sizes
    count = len(request.lengths)
    template = _template(request.outputs, request.parameters, region, is_series=True)
    return template % (*sizes, count, count * DATATYPES["INT64"].itemsize)


def request_tensors(request: InferRequest) -> tuple[memoryview, ...]:
    """Give the bytes that follow the JSON, none of those that lie in a region."""
    film = () if isinstance(request.film, RegionSlice) else (request.film.view(),)
    if not request.lengths:
        return film
    return *film, np.array(request.lengths, DATATYPES["INT64"]).data.cast("B")


def parse_answer(body: bytes, header_length: int | None) -> InferAnswer:
    """Read an answer; its tensors are read-only views of `body`.

    `header_length` is the answer's Inference-Header-Content-Length, None where all of it is JSON.
    ServerError when it does not keep to the protocol.
    """
    try:
        answer: _Answer = json.loads(body if header_length is None else body[:header_length])
        offset = len(body) if header_length is None else header_length
        outputs: dict[str, NDArray[np.generic]] = {}
        for output in answer["outputs"]:
            dtype = DATATYPES[output["datatype"]]
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                outputs[output["name"]] = np.asarray(output["data"], dtype).reshape(output["shape"])
            else:
                flat = np.frombuffer(body, dtype, size // dtype.itemsize, offset)
                outputs[output["name"]] = flat.reshape(output["shape"])
                offset += size
        return InferAnswer(int(answer["model_version"]), outputs)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(Status.INTERNAL.value, f"the answer is not KServe v2: {error!r}") from error


def parse_versions(body: bytes) -> tuple[int, ...]:
    """Read the versions in a model's metadata; ServerError when it is none."""
    try:
        return tuple(sorted(int(version) for version in json.loads(body)["versions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(Status.INTERNAL.value, f"the model's metadata cannot be read: {error!r}") from error


def parse_tensors(body: bytes, which: Literal["inputs", "outputs"]) -> frozenset[str]:
    """Read the names of the inputs or outputs in a model's metadata; ServerError when it is none."""
    try:
        return frozenset(str(tensor["name"]) for tensor in json.loads(body)[which])
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(Status.INTERNAL.value, f"the model's metadata cannot be read: {error!r}") from error


def parse_parameter(body: bytes, key: str) -> str | None:
    """Read a parameter in a model's configuration, None where there is none; ServerError when it is none."""
    try:
        parameter = json.loads(body).get("parameters", {}).get(key)
        return None if parameter is None else str(parameter["string_value"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(Status.INTERNAL.value, f"the model's configuration cannot be read: {error!r}") from error


def parse_error(body: bytes) -> str:
    """Give the reason in a refusal's body: Triton's `{"error": ...}`, or a proxy's page cut short."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return str(document["error"])
    return body[:200].decode("utf-8", "replace").strip() or "no reason given"
