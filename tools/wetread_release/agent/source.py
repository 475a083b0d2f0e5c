"""Where an agent gets releases from: the registry, or what it has installed before while the registry is away."""

import logging
import shutil
import tempfile
from pathlib import Path

from wetread_release.agent.served import ServedCopy, write_text
from wetread_release.contents import of_release, signed_manifest
from wetread_release.errors import Absent, BadDraft, ServeFailed
from wetread_release.manifest import Manifest
from wetread_release.registry import Registry

LOG = logging.getLogger(__name__)


class Source:
    """Verified manifests, and the files of their parts. `kept`: folder of the manifests of what is installed."""

    def __init__(self, registry: Registry, trusted: Path, kept: Path, scratch: Path) -> None:
        self._registry, self._trusted, self._kept, self._scratch = registry, trusted, kept, scratch

    def manifest(self, pipeline: str, release: int) -> Manifest:
        """Return a release's manifest, its signature verified.

        Raises:
            Untrusted: the signature is none of a trusted key's.
            BadDraft: it is no manifest, or one of another release.
            Absent: neither the registry nor this server has it.
        """
        try:
            _, document, signature = self._registry.manifest(pipeline, release)
        except (OSError, Absent) as error:
            document, signature = self._kept_manifest(pipeline, release, error)
        return self._read(pipeline, release, document, signature)

    def _read(self, pipeline: str, release: int, document: bytes, signature: bytes) -> Manifest:
        where = f"{pipeline} release {release} in {self._registry.where}"
        return of_release(signed_manifest(document, signature, self._trusted, where), pipeline, release, where)

    def keep(self, manifest: Manifest) -> None:
        """Remember the manifest of a release that is installed, for when the registry is away."""
        _, document, signature = self._registry.manifest(manifest.pipeline, manifest.release)
        folder = self._kept / manifest.pipeline
        write_text(folder / f"{manifest.release}.sig", signature.decode())
        write_text(folder / f"{manifest.release}.json", document.decode())

    def kept(self, pipeline: str) -> dict[int, Manifest]:
        """Return the manifests of what this server has installed of a pipeline; unreadable ones are left out."""
        found = {}
        for path in sorted((self._kept / pipeline).glob("*.json")):
            try:
                release = int(path.stem)
                found[release] = self._read(pipeline, release, path.read_bytes(), path.with_suffix(".sig").read_bytes())
            except (OSError, ValueError, BadDraft) as error:
                LOG.warning("a kept manifest is not used: %s", error)
        return found

    def forget(self, pipeline: str, release: int) -> None:
        """Forget a release whose files were removed."""
        for suffix in (".json", ".sig"):
            (self._kept / pipeline / f"{release}{suffix}").unlink(missing_ok=True)

    def install(self, manifest: Manifest, target: str, served: ServedCopy, *, replace_changed: bool = False) -> None:
        """Put the parts that a server of `target` takes into its served copy; what is there and intact stays.

        Raises:
            BadDraft: a file is not the manifest's.
            Absent: a part is missing here and the registry is away.
            ServeFailed: a version folder that is there holds something else.
        """
        missing = [part for part in manifest.pins(target).values() if not served.is_intact(part)]
        if missing:
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".fetch-", dir=self._scratch))
            try:
                self._registry.fetch(manifest.pipeline, manifest.release, folder / "release")
                for part in missing:
                    source = folder / "release" / "parts" / part.folder
                    served.install(part, source, replace_changed=replace_changed)
            except OSError as error:
                raise ServeFailed(f"{manifest.name} cannot be brought from {self._registry.where}: {error}") from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        self._remember(manifest)

    def _remember(self, manifest: Manifest) -> None:
        try:
            self.keep(manifest)
        except (OSError, Absent) as error:
            LOG.warning("%s is served while its registry is away: %s", manifest.name, error)

    def _kept_manifest(self, pipeline: str, release: int, error: Exception) -> tuple[bytes, bytes]:
        path = self._kept / pipeline / f"{release}.json"
        try:
            kept = path.read_bytes(), path.with_suffix(".sig").read_bytes()
        except OSError:
            raise Absent(f"{pipeline} release {release}: {error}") from error
        LOG.warning("%s cannot be asked (%s): what was installed before is used", self._registry.where, error)
        return kept
