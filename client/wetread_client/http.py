"""KServe v2 over HTTP(S): bodies sent from the caller's memory, answers read from one buffer."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, cast

from wetread_client.errors import ServerError, Status, Unavailable, WetreadError, status_of_http, translate
from wetread_client.kserve import (
    parse_answer,
    parse_error,
    parse_parameter,
    parse_tensors,
    parse_versions,
    request_header,
    request_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_client.endpoint import Endpoint
    from wetread_client.transport import InferAnswer, InferRequest

_ANSWER_BYTES = 1 << 17  # a heatmap, a card and notes
_TOO_LARGE = "--http-max-input-size"  # what Triton tells a body beyond it to raise; 64 MB by default in newer ones
_STALE = (BrokenPipeError, ConnectionResetError, RemoteDisconnected)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back: status, the length of the JSON in front (None: no binary part) and the body."""

    status: int
    header_length: int | None
    body: bytes


class _Reader(io.BufferedReader):
    """A connection's answers; large enough for a whole one, so that most take a single system call."""

    def makefile(self, _mode: str) -> _Reader:
        """Pass for a socket, of which HTTPResponse wants nothing else."""
        return self

    def close(self) -> None:
        """Stay open: HTTPResponse closes its file after each answer, and the next comes from here."""

    def end(self) -> None:
        """Close for good."""
        super().close()


class _Connection:
    """One kept-alive connection, used by one request at a time."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        plain = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = tls.wrap_socket(plain, server_hostname=endpoint.host) if tls else plain
        except BaseException:
            plain.close()
            raise
        self._reader = _Reader(self._socket.makefile("rb", buffering=0), _ANSWER_BYTES)
        self.requests = 0

    def exchange(
        self, head: bytes, body: Sequence[memoryview], method: str, deadline: float
    ) -> tuple[HttpAnswer, bool]:
        """Send one request, read its answer; the flag says whether the connection can be used again."""
        self.requests += 1
        try:
            self._allow(deadline)
            self._socket.sendall(head)
            for part in body:
                self._allow(deadline)
                self._socket.sendall(part)
                self._allow(deadline)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who refuses a body answers before it has read it: that answer says why; without one reading fails
        response = HTTPResponse(cast("socket.socket", self._reader), method=method)
        try:
            response.begin()
            length = response.getheader("Inference-Header-Content-Length")
            answer = HttpAnswer(response.status, None if length is None else int(length), response.read())
            return answer, not response.will_close
        finally:
            response.close()

    def close(self) -> None:
        self._reader.end()
        self._socket.close()

    def _allow(self, deadline: float) -> None:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining_s)


class HttpTransport:
    """Films over HTTP(S), a kept-alive connection for each request under way.

    `ca`: a PEM file with the authorities to trust instead of the system's.
    """

    def __init__(self, endpoint: Endpoint, ca: Path | None = None) -> None:
        self._endpoint = endpoint
        self._tls = ssl.create_default_context(cafile=ca) if endpoint.is_encrypted else None
        self._host = f"Host: {endpoint.netloc}\r\n"
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        """Send one film or series and wait for its answer."""
        deadline = time.monotonic() + timeout_s
        header, tensors = request_header(request), request_tensors(request)
        answer = self._call("POST", f"/v2/models/{request.model}/infer", header, tensors, deadline)
        if answer.status != 200:
            raise _refusal(answer)
        return parse_answer(answer.body, answer.header_length)

    def is_live(self, timeout_s: float) -> bool:
        """Say whether a server answers at all; False when nothing listens there."""
        return self._probe("/v2/health/live", timeout_s)

    def is_ready(self, model: str, timeout_s: float) -> bool:
        """Say whether the server serves `model` now."""
        return self._probe(f"/v2/models/{model}/ready", timeout_s)

    def versions(self, model: str, timeout_s: float) -> tuple[int, ...]:
        """Give the versions of `model` that the server serves; of a pipeline these are releases."""
        return parse_versions(self._get(f"/v2/models/{model}", timeout_s))

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        """Give the names of the outputs that `model` has, of this version or of the one that answers now."""
        which = "" if version is None else f"/versions/{version}"
        return parse_tensors(self._get(f"/v2/models/{model}{which}", timeout_s), "outputs")

    def inputs(self, model: str, timeout_s: float) -> frozenset[str]:
        """Give the names of the inputs that `model` has; with LENGTHS it takes a series, else a film."""
        return parse_tensors(self._get(f"/v2/models/{model}", timeout_s), "inputs")

    def parameter(self, model: str, key: str, timeout_s: float) -> str | None:
        """Give a parameter of the model's configuration, None where it has none of that name."""
        return parse_parameter(self._get(f"/v2/models/{model}/config", timeout_s), key)

    def register_region(self, name: str, key: str, size: int, timeout_s: float) -> None:
        """Register the POSIX region `key` of `size` bytes under `name`."""
        document = f'{{"key":"{key}","offset":0,"byte_size":{size}}}'.encode()
        self._command(f"/v2/systemsharedmemory/region/{name}/register", document, timeout_s)

    def unregister_region(self, name: str, timeout_s: float) -> None:
        """Make the server forget the region; no error where it knows none."""
        self._command(f"/v2/systemsharedmemory/region/{name}/unregister", b"", timeout_s)

    def close(self) -> None:
        """Close the connections; one in use closes when its request ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _probe(self, path: str, timeout_s: float) -> bool:
        try:
            return self._call("GET", path, b"", (), time.monotonic() + timeout_s).status == 200
        except Unavailable:
            return False

    def _get(self, path: str, timeout_s: float) -> bytes:
        answer = self._call("GET", path, b"", (), time.monotonic() + timeout_s)
        if answer.status != 200:
            raise _refusal(answer)
        return answer.body

    def _command(self, path: str, document: bytes, timeout_s: float) -> None:
        answer = self._call("POST", path, document, (), time.monotonic() + timeout_s)
        if answer.status != 200:
            raise _refusal(answer)

    def _call(
        self, method: str, path: str, header: bytes, tensors: Sequence[memoryview], deadline: float
    ) -> HttpAnswer:
        length = len(header) + sum(tensor.nbytes for tensor in tensors)
        binary = f"Inference-Header-Content-Length: {len(header)}\r\n" if tensors else ""
        content = "application/octet-stream" if tensors else "application/json"
        head = (
            f"{method} {self._endpoint.path}{path} HTTP/1.1\r\n{self._host}Content-Type: {content}\r\n"
            f"{binary}Content-Length: {length}\r\n\r\n"
        ).encode("ascii") + header
        try:
            return self._exchange(head, tensors, method, deadline)
        except (OSError, HTTPException, ValueError) as error:
            raise self._explain(error) from error

    def _exchange(self, head: bytes, tensors: Sequence[memoryview], method: str, deadline: float) -> HttpAnswer:
        connection = self._take(deadline)
        while True:
            try:
                answer, keep = connection.exchange(head, tensors, method, deadline)
            except BaseException as error:
                connection.close()
                if isinstance(error, _STALE) and connection.requests > 1:
                    # The server closed it while it was idle, so it closed its neighbours too. Readings change
                    # nothing on the server: sending one twice does no harm.
                    self._drop_idle()
                    connection = self._take(deadline)
                    continue
                raise
            self._give_back(connection, keep)
            return answer

    def _take(self, deadline: float) -> _Connection:
        with self._lock:
            if self._closed:
                raise Unavailable(Status.CANCELLED.value, "the client is closed")
            if self._idle:
                return self._idle.pop()
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        return _Connection(self._endpoint, self._tls, remaining_s)

    def _give_back(self, connection: _Connection, keep: bool) -> None:
        with self._lock:
            keep = keep and not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.close()

    def _explain(self, error: OSError | HTTPException | ValueError) -> WetreadError:
        where = f"{self._endpoint.scheme}://{self._endpoint.netloc}"
        if isinstance(error, TimeoutError):
            return Unavailable(Status.DEADLINE_EXCEEDED.value, f"no answer from {where} in time")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(Status.UNAUTHENTICATED.value, f"{where} is not trusted: {error.verify_message}")
        if isinstance(error, ValueError):
            return ServerError(Status.INTERNAL.value, f"{where} does not speak HTTP: {error}")
        return Unavailable(Status.UNAVAILABLE.value, f"{where} cannot be reached: {error or type(error).__name__}")


def _refusal(answer: HttpAnswer) -> WetreadError:
    """Make the error of an answer that is none; one about a body's size says how a series gets through."""
    status, reason = status_of_http(answer.status), parse_error(answer.body)
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _TOO_LARGE in reason:
        return ServerError(
            Status.OUT_OF_RANGE.value,
            f"the server takes no body of this size over HTTP ({reason}); send it over shared memory beside the server "
            f"(transport shm) or over gRPC (a grpc:// address), or raise the server's {_TOO_LARGE}",
        )
    return translate(status, reason)
