"""Where a site's release state lies, and what follows from `--state-dir`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Addresses of the three stores and the keys. Each may lie elsewhere than below the state folder."""

    state: Path
    """`build/state` in a checkout, /var/lib/wetread in images."""
    registry: str = ""
    """A folder or fsspec URL of published releases. Default: `releases` in the state folder."""
    rollouts: str = ""
    """A folder, or etcd://host:port/prefix. Default: `rollout` in the state folder."""
    keys: Path | None = None
    """Folder with `signing.pem` (where releases are published) and `trusted/*.pem`. Default: `keys` in the state."""

    @property
    def registry_url(self) -> str:
        """Give the registry's address."""
        return self.registry or str(self.state / "releases")

    @property
    def rollouts_url(self) -> str:
        """Give the rollout store's address."""
        return self.rollouts or str(self.state / "rollout")

    @property
    def keys_folder(self) -> Path:
        """Give the folder of keys."""
        return self.keys or self.state / "keys"

    @property
    def drafts(self) -> Path:
        """Give the folder where `build` and `new` leave drafts unless told."""
        return self.state / "drafts"
