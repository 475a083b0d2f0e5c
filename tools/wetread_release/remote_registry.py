"""A registry at any address that fsspec knows: S3, GCS, Azure, WebDAV..."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from wetread_release.contents import check_names, contents, copy_release, of_release, publishable
from wetread_release.durable import partial_folder
from wetread_release.errors import RegistryAway, ReleaseError
from wetread_release.manifest import Manifest
from wetread_release.registry import MANIFEST, SIGNATURE
from wetread_release.registry_names import absent, checked_name, checked_number, pipeline_names, release_numbers, taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RemoteRegistry:
    """Releases below a URL. Object stores know no rename, so the manifest is what makes a release: it is put last.

    What a writer that was killed has left is no release; the next writer of that number removes it. Two writers of one
    number at once would write over each other's files: the rollout's writer lock keeps them apart, and where it could
    not, hashes tell.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 -- ships no types; only where it is used

        self._url = url.rstrip("/")
        try:
            # Other machines write too: a listing that is remembered would hide their releases.
            self._files, self._root = fsspec.core.url_to_fs(self._url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ReleaseError(f"the registry {url} cannot be opened: {error}") from error

    @property
    def where(self) -> str:
        """Give the URL."""
        return self._url

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a release."""
        with self._reached():
            names = pipeline_names(self._names(self._root))
        return tuple(name for name in names if self.releases(name))

    def releases(self, pipeline: str) -> tuple[int, ...]:
        """Give the numbers of a pipeline's releases, in order."""
        with self._reached():
            numbers = release_numbers(self._names(f"{self._root}/{checked_name(pipeline)}"))
            return tuple(n for n in numbers if self._files.exists(f"{self._folder(pipeline, n)}/{MANIFEST}"))

    def manifest(self, pipeline: str, release: int) -> tuple[Manifest, bytes, bytes]:
        """Give a manifest, its bytes and its signature document; Absent when there is no such release."""
        folder = self._folder(pipeline, release)
        with self._reached():
            try:
                document = self._read(f"{folder}/{MANIFEST}")
            except FileNotFoundError as error:
                raise absent(self, pipeline, release) from error
            try:
                signature = self._read(f"{folder}/{SIGNATURE}")
            except FileNotFoundError:
                signature = b""  # whoever verifies says that it is not signed
        manifest = Manifest.parse(document, f"{self._url}: {folder}/{MANIFEST}")
        return of_release(manifest, pipeline, release, self._url), document, signature

    def fetch(self, pipeline: str, release: int, folder: Path) -> None:
        """Copy the release's files into `folder`, made new, checking every hash; Absent or BadDraft."""
        documents = self.manifest(pipeline, release)
        source = self._folder(pipeline, release)
        with self._reached():
            self._files.invalidate_cache()
            there = [path[len(source) :].lstrip("/") for path in self._files.find(source)]
            check_names(documents[0], there)
            with partial_folder(folder) as partial:
                copy_release(documents, lambda path: self._open(f"{source}/{path}"), partial)

    def put(self, pipeline: str, release: int, folder: Path) -> None:
        """Publish `folder`, manifest last; BadDraft: the number is taken, or the folder is not whole."""
        manifest, document, signature = publishable(folder, pipeline, release)
        target = self._folder(pipeline, release)
        with self._reached():
            self._files.invalidate_cache()
            if self._files.exists(f"{target}/{MANIFEST}"):
                raise taken(self, pipeline, release)
            if self._files.exists(target):
                self._files.rm(target, recursive=True)
            for path in contents(manifest):
                parent, _, _ = f"{target}/{path}".rpartition("/")
                self._files.makedirs(parent, exist_ok=True)
                self._files.put_file(str(folder / path), f"{target}/{path}")
            self._files.pipe_file(f"{target}/{SIGNATURE}", signature)
            try:
                self._files.pipe_file(f"{target}/{MANIFEST}", document, mode="create")
            except FileExistsError as error:  # two wrote this number at once: who put the manifest has it
                raise taken(self, pipeline, release) from error

    def _folder(self, pipeline: str, release: int) -> str:
        return f"{self._root}/{checked_name(pipeline)}/{checked_number(release)}"

    def _names(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[str] = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def _read(self, path: str) -> bytes:
        content: bytes = self._files.cat_file(path)
        return content

    def _open(self, path: str) -> BinaryIO:
        return cast("BinaryIO", self._files.open(path, "rb"))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn a file system's errors into ours. Each has its own kinds (botocore's are not OSErrors), hence all."""
        try:
            yield
        except ReleaseError:
            raise
        except Exception as error:
            raise RegistryAway(f"the registry {self._url} cannot be used now: {error}") from error
