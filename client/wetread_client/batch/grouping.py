"""Put the files of each series together by their headers, on disk, for an archive's names need not fit in memory."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wetread_client.batch.headers import look
from wetread_client.choosing import is_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from wetread_client.batch.archive import Archive


class Grouping:
    """A throw-away table of files and the entries they belong to."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wetread-batch-")
        self._table = sqlite3.connect(Path(self._folder.name) / "files.sqlite")
        self._table.execute("PRAGMA journal_mode = OFF")  # it dies with this process
        self._table.execute("PRAGMA synchronous = OFF")
        self._table.execute("CREATE TABLE files (entry TEXT, place INTEGER PRIMARY KEY, file TEXT)")

    def add(self, archive: Archive, file: str, wanted: Callable[[str], bool]) -> None:
        """Look into a file and keep it where its entry is wanted; one that cannot be looked into is its own entry."""
        header = look(archive, file)
        by_series = header is not None and is_series(header.modality) and header.modality and header.series_uid
        key = header.series_uid if header is not None and by_series else file
        if wanted(key):
            self._table.execute("INSERT INTO files (entry, file) VALUES (?, ?)", (key, file))

    def groups(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give each entry's key and files."""
        self._table.execute("CREATE INDEX by_entry ON files (entry, place)")
        key: str | None = None
        members: list[str] = []
        for entry, file in self._table.execute("SELECT entry, file FROM files ORDER BY entry, place"):
            if entry != key and key is not None:
                yield key, tuple(members)
                members = []
            key = entry
            members.append(file)
        if key is not None:
            yield key, tuple(members)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()
        self._folder.cleanup()
