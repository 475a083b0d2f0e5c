"""Loading beside patients: what a release agent marks is loaded by a thread that leaves the cores to everybody else."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

MARK = ".gently"
"""A file of this name in a version folder asks for it. A heal has no such file: it must be quick."""
LOWEST = 19

T = TypeVar("T")


def load_gently(folder: Path, load: Callable[[], T]) -> T:
    """Call `load`; in a thread at the lowest priority where `folder` is marked. Its errors are the caller's.

    A process may not raise its own priority again, so it is a thread that is lowered, and that ends with the load.
    """
    if not (folder / MARK).exists():
        return load()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        try:
            results.append(load())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="load-gently")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
