"""A registry in a local folder."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wetread_release.contents import check_names, copy_release, of_release, publishable
from wetread_release.durable import partial_folder, sync_folder
from wetread_release.errors import RegistryAway, ReleaseError
from wetread_release.manifest import Manifest
from wetread_release.registry import MANIFEST, SIGNATURE
from wetread_release.registry_names import absent, checked_name, checked_number, pipeline_names, release_numbers, taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LocalRegistry:
    """Releases below a folder. A writer that is killed leaves a hidden folder, which the next one removes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def where(self) -> str:
        """Give the folder."""
        return str(self._root)

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a release."""
        with _reached(self.where):
            names = pipeline_names(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        return tuple(name for name in names if self.releases(name))

    def releases(self, pipeline: str) -> tuple[int, ...]:
        """Give the numbers of a pipeline's releases, in order."""
        folder = self._root / checked_name(pipeline)
        with _reached(self.where):
            numbers = release_numbers(path.name for path in folder.iterdir()) if folder.is_dir() else []
            return tuple(number for number in numbers if (folder / str(number) / MANIFEST).is_file())

    def manifest(self, pipeline: str, release: int) -> tuple[Manifest, bytes, bytes]:
        """Give a manifest, its bytes and its signature document; Absent when there is no such release."""
        folder = self._folder(pipeline, release)
        with _reached(self.where):
            try:
                document = (folder / MANIFEST).read_bytes()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise absent(self, pipeline, release) from error
            try:
                signature = (folder / SIGNATURE).read_bytes()
            except FileNotFoundError:
                signature = b""  # no key signs so: whoever verifies says that it is not signed
        manifest = Manifest.parse(document, str(folder / MANIFEST))
        return of_release(manifest, pipeline, release, str(folder)), document, signature

    def fetch(self, pipeline: str, release: int, folder: Path) -> None:
        """Copy the release's files into `folder`, made new, checking every hash; Absent or BadDraft."""
        documents = self.manifest(pipeline, release)
        source = self._folder(pipeline, release)
        with _reached(self.where):
            there = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
            check_names(documents[0], there)
            with partial_folder(folder) as partial:
                copy_release(documents, lambda path: (source / path).open("rb"), partial)

    def put(self, pipeline: str, release: int, folder: Path) -> None:
        """Publish `folder` durably and at once; BadDraft: the number is taken, or the folder is not whole."""
        documents = publishable(folder, pipeline, release)
        target = self._folder(pipeline, release)
        with _reached(self.where):
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(self._root)  # `target.parent` may be new in it
            with (target.parent / ".put.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
                if target.exists():
                    raise taken(self, pipeline, release)
                with partial_folder(target) as partial:
                    copy_release(documents, lambda path: (folder / path).open("rb"), partial)

    def _folder(self, pipeline: str, release: int) -> Path:
        return self._root / checked_name(pipeline) / str(checked_number(release))


@contextmanager
def _reached(where: str) -> Iterator[None]:
    try:
        yield
    except ReleaseError:
        raise  # also those that are OSErrors
    except OSError as error:
        raise RegistryAway(f"the registry {where} cannot be used now: {error}") from error
