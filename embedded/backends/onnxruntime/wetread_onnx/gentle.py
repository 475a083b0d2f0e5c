"""Loading beside patients: what a release agent marks is loaded by a thread that leaves the cores to everybody else."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

MARKS = "gently"
"""Folder beside the repository whose files `<model>.<version>` ask for it. A heal has none: it must be quick."""
LOWEST = 19

T = TypeVar("T")


def load_gently(folder: Path, load: Callable[[], T]) -> T:
    """Call `load`; in a thread at the lowest priority where `folder`'s version is marked. Its errors are the caller's.

    A process may not raise its own priority again, so it is a thread that is lowered, and that ends with the load.
    """
    if not (folder.parents[2] / MARKS / f"{folder.parent.name}.{folder.name}").exists():
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
