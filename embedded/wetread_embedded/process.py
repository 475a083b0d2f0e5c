"""One tritonserver process: started on a leash, its log read to the end."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
_ERROR_LINE = re.compile(r"^E\d{4} |^error: |Error|Exception|^\s+\w*Error: ")
_LOAD_FAILED = re.compile(r"failed to load '(?P<model>[^']+)' version (?P<version>\d+): (?P<reason>.+)")


class ServerProcess:
    """A tritonserver and the thread that started it.

    The kernel's leash is tied to the starting *thread*, so the process is started by the thread that reads its log:
    that one lives as long as this process does, whichever thread called us.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        on_log: Callable[[str], None] | None,
        inherit: Sequence[int],
    ) -> None:
        self._command = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command]
        self._environment = dict(environment)
        self._log_file = log_file
        self._on_log = on_log
        self._inherit = tuple(inherit)
        self._started = threading.Event()
        self._start_error: OSError | None = None
        self._tail: deque[str] = deque(maxlen=400)
        self._process: subprocess.Popen[str] | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tritonserver-log", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._start_error is not None:
            raise self._start_error

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def lines(self) -> list[str]:
        """Return the last lines of the log."""
        return list(self._tail)

    def failures(self) -> list[str]:
        """Return why models did not load, `name: reason` each; otherwise the log's lines that tell of errors."""
        lines = self.lines()
        loads = {match["model"]: match["reason"] for line in lines if (match := _LOAD_FAILED.search(line))}
        if loads:
            return [f"{model}: {_reason(text)}" for model, text in loads.items()]
        return [line for line in lines if _ERROR_LINE.search(line)][-10:] or lines[-10:]

    def stop(self, timeout_s: float) -> int:
        """End the server: SIGTERM, after `timeout_s` SIGKILL. Return the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            if not self.ended.wait(timeout_s):
                self._process.kill()
                self.ended.wait()
        return self._process.wait()

    def kill_group(self) -> None:
        """Kill what the ended server's models started and left: its process group is all ours."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=self._inherit,
                process_group=0,  # Ctrl-C reaches us alone, and we stop the server in order
            )
        except OSError as error:
            self._start_error = error
            self._started.set()
            return
        self._started.set()
        watcher = threading.Thread(target=self._watch, name="tritonserver-end", daemon=True)
        watcher.start()
        self._read_log(self._process)

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with process.stdout, self._log_file.open("w", encoding="utf-8", buffering=1) as log:
            for line in process.stdout:  # ends when the last stub has closed it, too
                log.write(line)
                self._tail.append(line.rstrip("\n"))
                if self._on_log is not None:
                    self._on_log(line.rstrip("\n"))

    def _watch(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._thread.join(timeout=2.0)  # the last words, unless a stub that lives on holds the pipe
        self.ended.set()


def _reason(text: str) -> str:
    """Return a load's reason without the stack below it, which the log has."""
    return text.split("\\n\\nAt:", maxsplit=1)[0].rstrip('"').replace("\\n", "\n")
