"""Golden films, drawn once and at idle priority: drawing four costs as much as reading fifty."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_release.manifest import Golden

_TIMEOUT_S = 30.0  # at idle priority; where the cores are never idle, once more at the usual one
_MODULE = "wetread_release.agent.golden_shelf"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


class GoldenShelf:
    """Keeps the golden films of `root`'s film model in `folder`, one set for each list of labels and seeds."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder

    def films(self, golden: Golden) -> list[bytes]:
        """Return the films in the order of `golden.films`, drawn where they are not there yet.

        Raises:
            ServeFailed: they cannot be drawn.
        """
        words = [f"{label}:{seed}" for label, seed in golden.films]
        name = hashlib.sha256("\n".join([golden.film_model, *words]).encode()).hexdigest()[:32]
        ready = self._folder / name
        if not ready.is_dir():
            self._draw(words, ready)
        return [path.read_bytes() for path in sorted(ready.iterdir())]

    def _draw(self, words: list[str], ready: Path) -> None:
        partial = ready.with_name(f".{ready.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for idle in ("idle", "usual"):
            command = [
                sys.executable,
                "-m",
                "wetread_release.agent.golden_shelf",
                idle,
                str(self._root),
                str(partial),
                *words,
            ]
            try:
                subprocess.run(
                    command,
                    env=os.environ | _ONE_THREAD,
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired:
                continue
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", "") or str(error)
                raise ServeFailed(f"golden films cannot be drawn: {reason.strip().splitlines()[-1]}") from error
            partial.rename(ready)
            return
        raise ServeFailed(f"golden films were not drawn within {_TIMEOUT_S:g} s")


def main(priority: str, root: str, folder: str, *words: str) -> None:
    """Draw films into a folder, 00.dcm and so on; `words`: label and seed of each."""
    if priority == "idle":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    from wetread_release.golden import draw_films  # noqa: PLC0415 -- OpenCV and pydicom, at the lower priority

    films: Sequence[tuple[str, int]] = [
        (label, int(seed)) for label, _, seed in (word.rpartition(":") for word in words)
    ]
    for number, film in enumerate(draw_films(Path(root), films)):
        (Path(folder) / f"{number:02}.dcm").write_bytes(film)


if __name__ == "__main__":
    main(*sys.argv[1:])
