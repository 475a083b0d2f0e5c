"""Processes that a benchmark commands: a JSON line of work in, a JSON line of figures out."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

# As in the server: one thread a process, or the pools of numpy and OpenCV take cores from each other.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
ONE_THREAD = dict.fromkeys(_POOLS, "1")
Handler = Callable[..., Any]


class WorkerFailed(Exception):
    """A worker could not do what it was asked; its traceback is the message."""


class Worker:
    """A process that runs `module` as a program, on the given cores; ends with its context.

    `python`: of another environment, which must see this package.
    `ask` is `send` and `receive`; several workers are sent to first and received from then.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        cores: list[int] | None = None,
        one_thread: bool = True,
        python: str = sys.executable,
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(ONE_THREAD if one_thread else {})},
            text=True,
        )
        if cores is not None:
            os.sched_setaffinity(self._process.pid, cores)
        self.receive()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, command: str, **arguments: object) -> Any:
        """Have the worker do `command` and return its answer; WorkerFailed when it cannot."""
        self.send(command, **arguments)
        return self.receive()

    def send(self, command: str, **arguments: object) -> None:
        """Ask without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer to the oldest question; WorkerFailed when it is an error."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self._module} ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self._module}: {answer['error']}")
        return answer["answer"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def obey(handlers: Mapping[str, Handler]) -> None:
    """Be a worker: do what the lines of standard input say until they end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    print(json.dumps({"answer": "ready"}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": handlers[request["command"]](**request["arguments"])}
        except Exception:  # noqa: BLE001 -- the outermost loop: the commander gets the traceback
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)
