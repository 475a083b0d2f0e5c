"""Supervise one decoding process: a time limit, a memory limit, and a new process after a crash."""

import contextlib
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Self

from wetread_preprocess.codecs import Job
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.samples import FloatImage
from wetread_preprocess.wire import FRAME_AT, Request, raise_answer, shrunk_at

_START_TIMEOUT_S = 60.0
_LINE_LIMIT = 65536
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1));"
    "from wetread_preprocess.decoding_process import main; main()"
)


class Sandbox:
    """Decodes and shrinks compressed frames in a child process, one at a time.

    The child is started by `start` or at the first frame, and again after each crash, time-out or breach of its
    memory limit; a frame that it dies of twice is refused, the next is decoded. It ends with this process.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child without waiting for it, so that the first film need not."""
        if self._child is None:
            self._child = _Child(self._limits)

    def decode(self, job: Job, frame: Sequence[memoryview]) -> FloatImage:
        """Decode `frame`, given in fragments, and area-average it to `job.size`.

        Returns:
            float32 [rows, columns], stored values, NaN where all is padding.

        Raises:
            ImageError: what the decoder says, or that it crashed or took too long.
        """
        try:
            return self._attempt(job, frame)
        except ConnectionError:
            # It may have died of something else, before this frame or beside it: only the second death is the frame's.
            try:
                return self._attempt(job, frame)
            except ConnectionError as error:
                raise InvalidDicom("the codec crashed on this frame; the file is damaged") from error

    def _attempt(self, job: Job, frame: Sequence[memoryview]) -> FloatImage:
        if self._child is None or not self._child.alive():
            self.close()
        child = self._child = self._child or _Child(self._limits)
        try:
            return child.decode(job, frame)
        except TimeoutError as error:
            self.close()
            raise UnsupportedImage(f"decoding took longer than {self._limits.timeout_s:g} s and was stopped") from error
        except (ConnectionError, json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
            self.close()
            raise ConnectionError("the decoding process ended or answered nonsense") from error

    def close(self) -> None:
        """End the child process; the next frame starts a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Child:
    def __init__(self, limits: DecodeLimits) -> None:
        self._timeout_s = limits.timeout_s
        self._is_ready = False
        with contextlib.ExitStack() as on_failure:
            self._fd = os.memfd_create("wetread-frame")
            on_failure.callback(os.close, self._fd)
            os.ftruncate(self._fd, FRAME_AT)
            self._memory = mmap.mmap(self._fd, FRAME_AT)
            on_failure.callback(self._memory.close)
            ours, theirs = socket.socketpair()
            self._connection = ours
            on_failure.callback(ours.close)
            with theirs:
                arguments = [theirs.fileno(), self._fd, limits.memory_bytes, os.getpid()]
                self._process = subprocess.Popen(
                    [_interpreter(), "-c", _BOOT, json.dumps(sys.path), *map(str, arguments)],
                    pass_fds=(theirs.fileno(), self._fd),
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **_CODEC_ENVIRONMENT},
                )
            on_failure.pop_all()

    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, job: Job, frame: Sequence[memoryview]) -> FloatImage:
        if not self._is_ready:
            self._connection.settimeout(_START_TIMEOUT_S)
            self._receive()
            self._is_ready = True
        size = sum(map(len, frame))
        self._make_room(FRAME_AT + size)
        at = FRAME_AT
        for fragment in frame:
            self._memory[at : at + len(fragment)] = fragment
            at += len(fragment)
        self._connection.settimeout(self._timeout_s)
        self._connection.sendall(Request(job, size, len(self._memory)).encode())
        raise_answer(self._receive())
        with memoryview(self._memory) as view:
            return shrunk_at(view, job.size).copy()

    def close(self) -> None:
        _end(self._process)  # before its socket: it would print the reset as an error
        self._connection.close()
        self._memory.close()
        os.close(self._fd)

    def _make_room(self, size: int) -> None:
        if size > len(self._memory):
            capacity = 1 << (size - 1).bit_length()
            os.ftruncate(self._fd, capacity)
            self._memory.resize(capacity)

    def _receive(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = self._connection.recv(4096)
            if not part or len(line) > _LINE_LIMIT:
                raise ConnectionError("the decoding process ended")
            line += part
        return line


# A decoder's own threads would only take cores from the other films, its backtraces fill the log.
_CODEC_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RUST_BACKTRACE": "0",
    # Keep freed blocks instead of fetching their pages anew for each film: 2.5 ms of kernel time a JPEG 2000 film.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _interpreter(which: Callable[[str], str | None] = shutil.which) -> str:
    """The Python whose packages this process uses.

    Inside Triton's stub `sys.executable` may be the stub; its packages come from the first python3 on PATH.
    """
    if os.path.basename(sys.executable or "").startswith("python"):  # noqa: PTH119 -- sys.executable may be empty
        return sys.executable
    found = which("python3")
    if found is None:
        raise RuntimeError("no python3 on PATH to decode compressed films with")
    return found
