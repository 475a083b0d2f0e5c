"""A process that decodes pixels for triage: a film that kills a decoder, hangs it or eats memory harms nobody else."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from wetread_gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT_S = 60.0
COMMAND = (sys.executable, "-m", "wetread_gateway.triage.pixels")


class PixelsUnknown(GatewayError):
    """The pixels could not be decoded, with the reason."""


class PixelProcess:
    """Starts the process when it is first needed, and anew after it died. Used by one thread."""

    def __init__(self, timeout_s: float = TIMEOUT_S, command: Sequence[str] = COMMAND) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def equal(self, one: Path, other: Path) -> bool:
        """Tell whether two files hold the same pixels; PixelsUnknown where that cannot be told."""
        return bool(self._ask({"equal": [str(one), str(other)]})["equal"])

    def digest(self, path: Path) -> str:
        """Give the SHA-256 over a file's decoded pixels; PixelsUnknown where they cannot be decoded."""
        return str(self._ask({"digest": str(path)})["digest"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _ask(self, question: dict[str, object]) -> dict[str, Any]:
        try:
            line = self._asked(question)
        except (OSError, ValueError):  # once more: it may have died of something else, such as a lack of memory
            self.close()
            try:
                line = self._asked(question)
            except (OSError, ValueError) as error:
                self.close()
                raise PixelsUnknown("the decoder died of its pixels") from error
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PixelsUnknown(str(answer["error"]))
        return answer

    def _asked(self, question: dict[str, object]) -> bytes:
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        return self._line(process)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [*self._command, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        """Wait for one line of an answer."""
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        until, data = time.monotonic() + self._timeout_s, b""
        while not data.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                self.close()
                raise PixelsUnknown(f"its pixels took longer than {self._timeout_s:g} s to decode")
            chunk = os.read(pipe, 65536)
            if not chunk:
                raise OSError("it has ended")
            data += chunk
        return data
