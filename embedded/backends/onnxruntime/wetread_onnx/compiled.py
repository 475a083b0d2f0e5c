"""Folders of compiled models, whole or absent: several processes compile a model at once, and may be killed."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

KEPT = 8  # folders; each release of each model leaves one, of about three times the model's size


@contextlib.contextmanager
def compiled_folder(cache: Path, model: Path, *settings: object) -> Iterator[Path]:
    """Yield the folder of what was compiled from file `model` with these settings, or an empty one to be filled.

    OpenVINO maps the files that it finds into memory, so a half-written one must never be seen: a filled folder gets
    its name when the block ends without an error. A filled one is only read.
    """
    key = hashlib.sha256(repr(settings).encode() + model.read_bytes()).hexdigest()[:32]
    ready = cache / key
    if ready.is_dir():
        with contextlib.suppress(OSError):
            os.utime(ready)  # lately used
        yield ready
        return
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".", dir=cache))
    try:
        yield made
        with contextlib.suppress(OSError):  # another instance was quicker
            made.rename(ready)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _forget_old(cache)


def _forget_old(cache: Path) -> None:
    folders = [folder for folder in cache.iterdir() if not folder.name.startswith(".")]
    with contextlib.suppress(OSError):  # another instance tidies up, too
        for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(folder)
