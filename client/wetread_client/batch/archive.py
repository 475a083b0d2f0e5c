"""Archives at any path that fsspec knows: folders listed one at a time, files brought here to be read."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from wetread_client.batch.errors import ArchiveAway, BatchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEAD_BYTES = 1 << 16
"""What is fetched at once of a file whose header alone is wanted; few headers are longer."""


class Archive:
    """File systems by their protocol, opened when they are first needed; safe to use from many threads.

    Addresses are local paths or URLs. Listings are not kept: they would hold every name of the archive in memory.
    """

    def __init__(self) -> None:
        self._systems: dict[str, Any] = {}
        self._lock = threading.Lock()

    def is_local(self, address: str) -> bool:
        """Say whether an address is a path of this machine, whose files are read where they lie."""
        return _protocol(address) in ("", "file", "local")

    def local_path(self, address: str) -> Path:
        """Give a local address as a path."""
        return Path(address.split("://", 1)[-1])

    def folder(self, address: str) -> tuple[list[str], list[str]]:
        """List one folder: the folders and the files in it, by their addresses, each sorted."""
        system, path = self._open(address)
        with reached(address):
            found = system.ls(path, detail=True)
        folders: list[str] = []
        files: list[str] = []
        for one in found:
            name = str(one["name"]).rstrip("/")
            if name == path.rstrip("/") and one["type"] != "file":
                continue  # object stores list the folder's own marker in it
            (folders if one["type"] == "directory" else files).append(self._address(address, name))
        return sorted(folders), sorted(file for file in files if not file.endswith("/"))

    def below(self, address: str) -> list[str]:
        """Give all files below a folder, in order."""
        folders, files = self.folder(address)
        for folder in folders:
            files += self.below(folder)
        return files

    def is_folder(self, address: str) -> bool:
        """Say whether there is a folder at an address; ArchiveAway where nothing is."""
        system, path = self._open(address)
        with reached(address):
            if system.isdir(path):
                return True
            if not system.exists(path):
                raise ArchiveAway(f"nothing is at {address}")
        return False

    def open(self, address: str) -> BinaryIO:
        """Open a file to read, from its start on."""
        system, path = self._open(address)
        if self.is_local(address):
            return Path(path).open("rb")
        return cast("BinaryIO", system.open(path, "rb", block_size=HEAD_BYTES))

    def fetch(self, addresses: Sequence[str], folder: Path) -> list[Path]:
        """Bring files into a folder, under their place in `addresses`; the suffix stays, for it tells a picture."""
        brought = []
        for number, address in enumerate(addresses):
            system, path = self._open(address)
            target = folder / f"{number:06d}{Path(path).suffix}"
            with reached(address, "fetched"):
                system.get_file(path, str(target))
            brought.append(target)
        return brought

    def _open(self, address: str) -> tuple[Any, str]:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 -- ships no types; the extra `batch` brings it

        protocol = _protocol(address) or "file"
        with self._lock:
            if protocol not in self._systems:
                try:
                    system, _ = fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
                except (ImportError, ValueError) as error:
                    raise BatchError(f"{address} cannot be opened: {error}") from error
                self._systems[protocol] = system
            system = self._systems[protocol]
        return system, str(system._strip_protocol(address))  # noqa: SLF001 -- fsspec documents it for its users

    def _address(self, parent: str, name: str) -> str:
        protocol = _protocol(parent)
        return f"{protocol}://{name.lstrip('/') if protocol == 'memory' else name}" if protocol else name


@contextmanager
def reached(address: str, what: str = "listed") -> Iterator[None]:
    """Turn what a file system raises into ArchiveAway, for those below fsspec have errors of their own.

    Of a file that is not there, or not to be opened, the system's own error stays.
    """
    try:
        yield
    except (BatchError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise ArchiveAway(f"{address} cannot be {what}: {error or type(error).__name__}") from error


def _protocol(address: str) -> str:
    return address.split("://", 1)[0] if "://" in address else ""
