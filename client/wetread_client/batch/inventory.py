"""What an archive holds, entry by entry and never all at once: studies' folders, files, or series by their headers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wetread_client.batch.errors import BatchError
from wetread_client.batch.grouping import Grouping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wetread_client.batch.archive import Archive

Layout = Literal["folders", "files", "headers"]
LARGEST_FOLDER = 4000
"""Files of a folder that is still taken for one study or series; a larger one is looked into, file by file."""
MANIFESTS = (".txt", ".lst", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one worker takes at once: a folder's files, or files of one series; `key` tells it from all others.

    `named`: somebody named these very files, so that they are read even if they look like no images.
    """

    key: str
    folder: str | None = None
    files: tuple[str, ...] = ()
    named: bool = False

    def line(self) -> str:
        """Give it as a line of a manifest."""
        content: dict[str, object] = {"key": self.key}
        content |= {"folder": self.folder} if self.folder is not None else {"files": list(self.files)}
        content |= {} if self.named or self.folder is not None else {"named": False}
        return json.dumps(content)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal shares, from 0; whose an entry is follows from its key alone, on every machine."""

    index: int = 0
    of: int = 1

    def has(self, key: str) -> bool:
        """Say whether an entry of this key is this share's."""
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        return number % self.of == self.index


@dataclass(frozen=True, slots=True)
class Inventory:
    """How to list a source.

    `study_depth`: studies are the folders so far below the source, with all that lies below them; only those of this
    share are listed. 0: every folder that holds files is an entry.
    """

    archive: Archive
    source: str
    layout: Layout = "folders"
    study_depth: int = 0

    def entries(self, shard: Shard) -> Iterator[Entry]:
        """Give the entries of one share, in an order that stays."""
        if _is_manifest(self.source) and not self.archive.is_folder(self.source):
            yield from self._of_manifest(shard)
        elif not self.archive.is_folder(self.source):
            yield from _mine([_film(self.source)], shard)
        elif self.layout == "headers":
            yield from self._by_header(self._files(self.source), shard)
        elif self.layout == "files":
            yield from _mine((Entry(file, files=(file,)) for file in self._files(self.source)), shard)
        elif self.study_depth:
            yield from self._studies(self.source, self.study_depth, shard)
        else:
            yield from self._folders(self.source, shard)

    def _studies(self, address: str, depth: int, shard: Shard) -> Iterator[Entry]:
        folders, files = self.archive.folder(address)
        yield from _mine((Entry(file, files=(file,)) for file in files), shard)
        for folder in folders:
            if depth > 1:
                yield from self._studies(folder, depth - 1, shard)
            elif shard.has(folder):
                yield Entry(folder, folder=folder)

    def _folders(self, address: str, shard: Shard) -> Iterator[Entry]:
        folders, files = self.archive.folder(address)
        if len(files) > LARGEST_FOLDER:
            yield from self._by_header(files, shard)
        elif files and shard.has(address):
            # Its own files alone: the folders below it are entries of their own.
            yield Entry(address, files=tuple(files)) if folders else Entry(address, folder=address)
        for folder in folders:
            yield from self._folders(folder, shard)

    def _files(self, address: str) -> Iterator[str]:
        folders, files = self.archive.folder(address)
        yield from files
        for folder in folders:
            yield from self._files(folder)

    def _by_header(self, files: Iterable[str], shard: Shard) -> Iterator[Entry]:
        """Open every file to see which series it is of; films stay single."""
        with Grouping() as grouping:
            for file in files:
                grouping.add(self.archive, file, shard.has)
            for key, members in grouping.groups():
                yield Entry(key, files=members)

    def _of_manifest(self, shard: Shard) -> Iterator[Entry]:
        base = self.source.rsplit("/", 1)[0] if "/" in self.source else "."
        with self.archive.open(self.source) as content:
            for number, raw in enumerate(content, 1):
                line = raw.decode("utf-8", "replace").strip()
                if not line or line.startswith("#"):
                    continue
                try:
                    entry = parse_line(line, base)
                except (ValueError, KeyError, TypeError) as error:
                    raise BatchError(f"{self.source}, line {number}: no path and no entry: {error}") from error
                if shard.has(entry.key):
                    yield entry


def parse_line(line: str, base: str = "") -> Entry:
    """Read a line of a manifest: the path of a file, of a folder (ending in `/`), or an entry's JSON object.

    Paths are relative to `base`, unless they are absolute or URLs. ValueError, KeyError or TypeError when it is none.
    """
    if not line.startswith("{"):
        address = _below(base, line)
        return Entry(address.rstrip("/"), folder=address.rstrip("/")) if line.endswith("/") else _film(address)
    content = json.loads(line)
    if "folder" in content:
        folder = _below(base, str(content["folder"])).rstrip("/")
        return Entry(str(content.get("key") or folder), folder=folder)
    files = tuple(_below(base, str(file)) for file in content["files"])
    if not files:
        raise ValueError("an entry without files")
    return Entry(str(content.get("key") or files[0]), files=files, named=bool(content.get("named", True)))


def _film(address: str) -> Entry:
    return Entry(address, files=(address,), named=True)


def _mine(entries: Iterable[Entry], shard: Shard) -> Iterator[Entry]:
    return (entry for entry in entries if shard.has(entry.key))


def _below(base: str, path: str) -> str:
    return path if not base or "://" in path or path.startswith("/") else f"{base}/{path}"


def _is_manifest(source: str) -> bool:
    return source.lower().endswith(MANIFESTS)
