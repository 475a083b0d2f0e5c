"""The store: the copies that the server reads, its backends' folder, its cache; one live server a store."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from wetread_embedded import shared_memory, stubs
from wetread_embedded.errors import StoreInUse
from wetread_embedded.gentle import provide_stub
from wetread_embedded.runtime import Runtime

ENDS_WITHIN_S = 20.0
"""A server whose starter was killed is told to end, which takes its exit timeout and a little."""
ONNX_BACKEND = Path(__file__).resolve().parents[1] / "backends" / "onnxruntime"


@dataclass
class Store:
    """A locked store. The server inherits the lock, so that it outlives a starter that was killed."""

    path: Path
    lock_fd: int
    prefix: str
    """What the names of the server's shared memory begin with."""

    @classmethod
    def open(cls, path: Path, *, fresh: bool = False) -> Self:
        """Lock the store in folder `path`, made if need be; `fresh` empties it.

        Raises:
            StoreInUse: a live server holds it.
        """
        path.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(path, lock_fd)
        except StoreInUse:
            os.close(lock_fd)
            raise
        left = _read_holder(path / "lock").get("prefix")
        if shared_memory.is_prefix(left):  # of a server that was killed together with its starter
            stubs.kill(str(left))
            shared_memory.remove(str(left))
        prefix = shared_memory.new_prefix()
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, json.dumps({"pid": os.getpid(), "prefix": prefix}).encode(), 0)
        store = cls(path, lock_fd, prefix)
        if fresh:
            store.empty()
        return store

    @property
    def models(self) -> Path:
        """The served copy of `model_repository/`."""
        return self.path / "model_repository"

    @property
    def ensembles(self) -> Path:
        """The served copy of `ensembles/`."""
        return self.path / "ensembles"

    @property
    def backends(self) -> Path:
        """The folder of backends."""
        return self.path / "backends"

    @property
    def cache(self) -> Path:
        """What may be kept from one start to the next: compiled models."""
        return self.path / "cache"

    @property
    def pipelines(self) -> list[str]:
        """The names of the served pipelines."""
        return sorted(config.parent.name for config in self.ensembles.glob("*/config.pbtxt"))

    def empty(self) -> None:
        """Remove all but the lock."""
        for entry in self.path.iterdir():
            if entry.name == "lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def provide_backends(self, root: Path, runtime: Runtime) -> None:
        """Make the backends' folder anew: Triton's Python backend, and the python-based ones of `root`."""
        self.cache.mkdir(exist_ok=True)
        if self.backends.exists():
            shutil.rmtree(self.backends)
        python = self.backends / "python"
        python.mkdir(parents=True)
        for part in (runtime.python_backend, runtime.python_utils):
            shutil.copy(part, python)  # a linked library is refused: it "escapes backend directory"
        provide_stub(runtime.stub, python)
        for name, folder in find_backends(root).items():
            (self.backends / name).symlink_to(folder)  # a link: an edited backend is never stale

    def close(self) -> None:
        """Let go of the store."""
        with contextlib.suppress(OSError):
            os.close(self.lock_fd)


def find_backends(root: Path) -> dict[str, Path]:
    """Return the python-based backends by the name that config.pbtxt uses: `<x>_backend/` is `wetread_<x>`."""
    backends = {"onnxruntime": ONNX_BACKEND}
    for model in sorted(root.glob("*_backend/model.py")):
        backends["wetread_" + model.parent.name.removesuffix("_backend")] = model.parent.resolve()
    return backends


def copy_repository(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Make `target` a copy of what Triton reads of the repository `source`, but for the models named `without`."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for config in sorted(source.glob("*/config.pbtxt")):
        if config.parent.name not in without:
            copy_model(config.parent, target / config.parent.name)


def copy_model(source: Path, target: Path) -> None:
    """Make `target` a copy of what Triton reads of a model: config.pbtxt and its numbered versions."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copyfile(source / "config.pbtxt", target / "config.pbtxt")
    for version in source.iterdir():
        if version.is_dir() and version.name.isdecimal():
            shutil.copytree(version, target / version.name, ignore=shutil.ignore_patterns(".*", "__pycache__"))


def _lock(path: Path, lock_fd: int) -> None:
    """Lock the store; a server whose starter was killed is waited for, and what outlived it is ended.

    Raises:
        StoreInUse: a live server holds it.
    """
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_holder(path / "lock")
            pid, prefix = holder.get("pid"), holder.get("prefix")
            if not (isinstance(pid, int) and shared_memory.is_prefix(prefix)) or _lives(pid):
                deadline = 0.0
            if time.monotonic() > deadline:
                msg = f"the server of process {pid or 'unknown'} uses {path}: stop it, or choose another --store"
                raise StoreInUse(msg) from error
            stubs.kill(str(prefix), orphans_only=True)  # one that was just starting never sees its server's end
            time.sleep(0.1)
        else:
            return


def _lives(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        return (stubs.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _read_holder(lock: Path) -> dict[str, object]:
    try:
        holder = json.loads(lock.read_text() or "{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
