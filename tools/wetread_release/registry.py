"""Where published releases lie: one protocol for a local folder and for any fsspec path.

<registry>/<pipeline>/<release>/manifest.json   signed; written last
                                manifest.sig    see `signing`
                                parts/<folder>/ the parts' files
                                build.json, CARD.md, gate/...
"""

from pathlib import Path
from typing import Protocol

from wetread_release.manifest import Manifest

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"


class Registry(Protocol):
    """Published releases. A release is there when its manifest is; what is there never changes."""

    @property
    def where(self) -> str:
        """Give the address, for messages."""
        ...

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a release."""
        ...

    def releases(self, pipeline: str) -> tuple[int, ...]:
        """Give the numbers of a pipeline's releases, in order."""
        ...

    def manifest(self, pipeline: str, release: int) -> tuple[Manifest, bytes, bytes]:
        """Give a manifest, its bytes and its signature document; Absent when there is no such release."""
        ...

    def fetch(self, pipeline: str, release: int, folder: Path) -> None:
        """Copy the release's files (not only the manifest) into `folder`, made new; Absent as above."""
        ...

    def put(self, pipeline: str, release: int, folder: Path) -> None:
        """Publish `folder`, which holds the release's layout, durably and at once; BadDraft: the number is taken."""
        ...
