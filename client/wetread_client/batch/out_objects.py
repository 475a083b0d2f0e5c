"""Results in an object store, which knows no append: parts of a log, each put whole."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wetread_client.batch.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PART_LINES, PART_S = 200, 30.0
"""A part is put after so many lines or seconds; what a killed process had not put yet is read again."""


class ObjectOut:
    """A prefix of any store that fsspec knows. It has no locks: one process a share is for the caller to see to."""

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 -- ships no types; the extra `batch` brings it

        try:
            self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise BatchError(f"{url} cannot be opened: {error}") from error
        self._root = str(root).rstrip("/")

    def names(self, start: str) -> list[str]:
        """Give the names that start so."""
        try:
            found = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if name.startswith(start) and name.endswith(".jsonl"))

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines."""
        with self._files.open(f"{self._root}/{name}", "rb") as content:
            yield from content

    def put(self, name: str, lines: Iterable[str]) -> None:
        """Write a file when all of its lines are there; one that was cut short would look whole."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="wetread-batch-") as whole:
            whole.writelines(f"{line}\n" for line in lines)
            whole.flush()
            self._files.put_file(whole.name, f"{self._root}/{name}")

    def put_first(self, name: str, line: str) -> bool:
        """Write a file unless there is one; of two that try at once both may believe to be first."""
        if self._files.exists(f"{self._root}/{name}"):
            return False
        self.put(name, [line])
        return True

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Do nothing: an object store keeps nobody out."""
        yield

    def log(self, name: str) -> ObjectLog:
        """Begin a log; its parts are told from those of earlier runs by a random word."""
        return ObjectLog(self, f"{name}.{int(time.time()):010d}-{secrets.token_hex(3)}")


class ObjectLog:
    """Lines held until they make a part; also parts that could not be put, which are tried again with the next."""

    def __init__(self, out: ObjectOut, start: str) -> None:
        self._out, self._start = out, start
        self._held: list[str] = []
        self._number, self._put_at = 0, time.monotonic()
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Hold a line; put a part where it is time."""
        with self._lock:
            self._held.append(line)
            if len(self._held) >= PART_LINES or time.monotonic() - self._put_at >= PART_S:
                self._put()

    def sync(self) -> None:
        """Put what has waited long enough."""
        with self._lock:
            if self._held and time.monotonic() - self._put_at >= PART_S:
                self._put()

    def close(self) -> None:
        """Put what is held."""
        with self._lock:
            if self._held:
                self._put()

    def _put(self) -> None:
        self._out.put(f"{self._start}.{self._number:06d}.jsonl", self._held)
        self._held, self._put_at = [], time.monotonic()
        self._number += 1
