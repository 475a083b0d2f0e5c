"""The other end of the compiler's process: jobs go in, answers come out, and its death is an error like any other."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from wetread_release.errors import BadModel
from wetread_release.tensorrt.jobs import COMPILED, JOB, Compiled, Job
from wetread_release.tensorrt.libraries import Libraries, NoCompiler, find_libraries

_LAST_LINES = 5


class Compiler:
    """TensorRT in a process of its own; use it as a context manager. Not for several threads at once."""

    def __init__(self, cache: Path) -> None:
        """Start it.

        Args:
            cache: folder where links to the libraries are kept.

        Raises:
            NoCompiler: there is no TensorRT, or it does not start.
        """
        self.libraries: Libraries = find_libraries(cache)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wetread_release.tensorrt.child", self.libraries.module],
            env=self.libraries.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        self.version = self._line().decode().strip()
        """TensorRT's, as in `11.4.0.106`."""
        if not self.version:
            message = f"{self.libraries.compiler} does not start: {self._death()}"
            self.close()
            raise NoCompiler(message)

    @property
    def process_id(self) -> int:
        """Give the process's number."""
        return self._process.pid

    def run(self, job: Job) -> Compiled:
        """Parse a model and compile it.

        Raises:
            BadModel: the compiler died of it.
        """
        stdin = _pipe(self._process.stdin)
        try:
            stdin.write(JOB.dump_json(job) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says it
        answer = self._line()
        if not answer:
            raise BadModel(f"{job.model}: {self.libraries.compiler} died while it compiled: {self._death()}")
        return COMPILED.validate_json(answer)

    def close(self) -> None:
        """End the process."""
        _pipe(self._process.stdin).close()
        self._process.kill()  # nothing that it holds outlives it
        self._process.wait()
        _pipe(self._process.stdout).close()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _line(self) -> bytes:
        return _pipe(self._process.stdout).readline()

    def _death(self) -> str:
        """Say how it ended, and its last words."""
        code = self._process.wait()
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return " | ".join([end, *words])


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
