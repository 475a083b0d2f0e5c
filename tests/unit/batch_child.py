"""A batch in a process of its own that kills itself, as kill -9 would, at one of its steps.

python batch_child.py SOURCE OUT STEP: the step, counted from 1, is a film sent, a line half written, a line written, or
one made durable; 0 lets it live.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client import Client, FakeTransport
from wetread_client.batch.archive import Archive
from wetread_client.batch.desk import DeskOptions
from wetread_client.batch.inventory import Inventory, Shard
from wetread_client.batch.out import FolderOut
from wetread_client.batch.pace import Pace
from wetread_client.batch.run import Batch, run
from wetread_client.fake import FakeRequest, fake_answer

if TYPE_CHECKING:
    from wetread_client.transport import InferAnswer


def main(source: str, out: str, fatal: int) -> None:
    steps = _Steps(fatal)
    write, fsync = os.write, os.fsync

    def half_written(file: int, content: memoryview) -> int:
        if steps.is_fatal():
            write(file, content[: len(content) // 2])
            die()
        done = write(file, content)
        steps.take()
        return done

    def synced(file: int) -> None:
        steps.take()
        fsync(file)

    def answer(_: FakeRequest) -> InferAnswer:
        steps.take()
        return fake_answer([0.9])

    os.write, os.fsync = half_written, synced
    transport = FakeTransport([answer])
    batch = Batch(
        inventory=Inventory(Archive(), source),
        shard=Shard(),
        out=FolderOut(Path(out)),
        connect=lambda name: Client("fake", name, transport=transport),
        options=DeskOptions(pipeline="chest_xray"),
        pace=Pace(),
    )
    assert run(batch).is_well


class _Steps:
    def __init__(self, fatal: int) -> None:
        self._left = fatal
        self._lock = threading.Lock()

    def is_fatal(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left == 0

    def take(self) -> None:
        if self.is_fatal():
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
