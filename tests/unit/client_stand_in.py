"""A small HTTP server that speaks KServe v2 with binary tensors and system shared memory, for tests of the client."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from wetread_client.fake import fake_answer, fake_segmentation

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from wetread_client.transport import InferAnswer

DATATYPES = {"float32": "FP32", "bool": "BOOL", "uint8": "UINT8"}
PIPELINES = ("chest_xray", "brain_mr")
"""A pipeline of films, and one of series."""


def metadata(model: str, answer: InferAnswer) -> bytes:
    inputs = ["DICOM"] if model == "chest_xray" else ["DICOM", "LENGTHS"]
    document = {
        "name": model,
        "versions": ["3", "1"],
        "inputs": [{"name": name} for name in inputs],
        "outputs": [{"name": name} for name in answer.outputs],
    }
    return json.dumps(document).encode()


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str


def mean_is_probability(film: bytes) -> InferAnswer:
    """An answer that depends on every byte of the film."""
    return fake_answer([float(np.frombuffer(film, np.uint8).mean()) / 255])


@dataclass
class StandIn:
    """Serves films by `answer` and series, their files end to end, by `answer_series`; notes what it was asked."""

    answer: Callable[[bytes], InferAnswer | Refusal] = mean_is_probability
    answer_series: Callable[[bytes], InferAnswer | Refusal] = lambda _: fake_segmentation()
    served: tuple[str, ...] = PIPELINES
    named_regions: bool = False
    shares_memory: bool = True
    port: int = 0
    tls: ssl.SSLContext | None = None
    films: list[bytes] = field(default_factory=list)
    series: list[tuple[str, list[bytes]]] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    regions: dict[str, tuple[str, int]] = field(default_factory=dict)
    connections: int = 0
    open: set[socket.socket] = field(default_factory=set)

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(_Handler):
            server_state = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        for connection in list(self.open):  # a server that goes closes its connections
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: StandIn

    def setup(self) -> None:
        super().setup()
        self.server_state.connections += 1
        self.server_state.open.add(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server_state.open.discard(self.connection)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        state = self.server_state
        state.paths.append(self.path)
        _, _, *parts = self.path.split("/")
        match parts:
            case ["models", model, *rest] if model in state.served and rest != ["ready"]:
                if rest == ["config"]:
                    told = {"film_region": {"string_value": "true"}} if state.named_regions else {}
                    self._send(200, json.dumps({"parameters": told}).encode())
                else:
                    answer = fake_answer() if model == "chest_xray" else fake_segmentation()
                    self._send(200, metadata(model, answer))
            case ["health", "live"]:
                self._send(200, b"")
            case ["models", model, "ready"] if model in state.served:
                self._send(200, b"")
            case _:
                self._send(400, b"")

    def do_POST(self) -> None:
        state = self.server_state
        state.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/v2/systemsharedmemory/region/"):
            self._region(body)
        elif (model := self.path.split("/")[3]) in state.served and self.path.endswith("/infer"):
            length = self.headers.get("Inference-Header-Content-Length")
            header = json.loads(body if length is None else body[: int(length)])
            self._infer(model, header, b"" if length is None else body[int(length) :])
        else:
            self._send(404, json.dumps({"error": f"Request for unknown model: {self.path}"}).encode())

    def _region(self, body: bytes) -> None:
        state = self.server_state
        name, verb = self.path.split("/")[4:]
        if verb == "unregister":
            state.regions.pop(name, None)
        elif not state.shares_memory:
            self._send(400, b'{"error":"shared memory is switched off"}')
            return
        else:
            region = json.loads(body)
            assert Path("/dev/shm", region["key"].lstrip("/")).stat().st_size == region["byte_size"]
            state.regions[name] = (region["key"], region["byte_size"])
        self._send(200, b"")

    def _infer(self, model: str, header: dict, tensors: bytes) -> None:
        state = self.server_state
        where = header["inputs"][0]["parameters"]
        film, rest = tensors[: where.get("binary_data_size", 0)], tensors[where.get("binary_data_size", 0) :]
        if "shared_memory_region" in where:
            name, size = where["shared_memory_region"], where["shared_memory_byte_size"]
            if name not in state.regions:
                message = f"Unable to find shared memory region: '{name}'"
                self._send(404, json.dumps({"error": message}).encode())
                return
            with Path("/dev/shm", state.regions[name][0].lstrip("/")).open("rb") as file:
                film = file.read(size)
        assert header["inputs"][0]["shape"] == [1, len(film)]
        if "film_region" in header["parameters"]:
            assert film == b"\0"
            name, size = header["parameters"]["film_region"].split(":")
            film = Path("/dev/shm", name).read_bytes()[: int(size)]
        state.headers.append(header)
        if model == "chest_xray":
            assert len(header["inputs"]) == 1
            assert not rest
            state.films.append(film)
            answer = state.answer(film)
        else:
            state.series.append((model, self._files(header["inputs"][1], film, rest)))
            answer = state.answer_series(film)
        if isinstance(answer, Refusal):
            self._send(answer.status, json.dumps({"error": answer.message}).encode())
            return
        outputs, parts = [], []
        for wanted in header["outputs"]:
            tensor = answer.outputs[wanted["name"]]
            parts.append(np.ascontiguousarray(tensor).tobytes())
            outputs.append(
                {
                    "name": wanted["name"],
                    "datatype": DATATYPES[tensor.dtype.name],
                    "shape": list(tensor.shape),
                    "parameters": {"binary_data_size": len(parts[-1])},
                }
            )
        document = {"model_name": model, "model_version": str(answer.model_version), "outputs": outputs}
        text = json.dumps(document).encode()
        self._send(200, text + b"".join(parts), len(text))

    def _files(self, described: dict, film: bytes, tensor: bytes) -> list[bytes]:
        lengths = np.frombuffer(tensor, np.int64).tolist()
        assert described == {
            "name": "LENGTHS",
            "shape": [1, len(lengths)],
            "datatype": "INT64",
            "parameters": {"binary_data_size": 8 * len(lengths)},
        }
        ends = list(itertools.accumulate(lengths))
        assert ends[-1] == len(film)
        return [film[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _send(self, status: int, body: bytes, header_length: int | None = None) -> None:
        self.send_response(status)
        if header_length is not None:
            self.send_header("Inference-Header-Content-Length", str(header_length))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
