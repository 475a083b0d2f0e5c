"""A site: its registry, its rollouts and its keys, opened from their addresses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread_client.rollout import RolloutStore

    from wetread_release.places import Places
    from wetread_release.registry import Registry

IMAGE_STATE = Path("/var/lib/wetread")


@dataclass(frozen=True)
class Site:
    """Where releases are published, rolled out and signed."""

    registry: Registry
    rollouts: RolloutStore
    keys: Path
    """Folder of the signing key; the trusted ones lie in `trusted` below it."""
    checkout: Path | None = None
    """The checkout whose own release every server serves before the first publish; None: there is none."""
    scratch: Path | None = None
    """Folder in which releases are laid out before they go into the registry; None: the system's."""

    @property
    def trusted(self) -> Path:
        """Give the folder of the public keys whose releases are served here."""
        return self.keys / "trusted"

    @classmethod
    def open(cls, places: Places, checkout: Path | None = None) -> Site:
        """Open the stores; RolloutError or ReleaseError when an address is none."""
        from wetread_client.rollout import open_store  # noqa: PLC0415 - whoever brings its own stores does without

        from wetread_release.registries import open_registry  # noqa: PLC0415

        registry, rollouts = open_registry(places.registry_url), open_store(places.rollouts_url)
        return cls(registry, rollouts, places.keys_folder, checkout, places.state / "scratch")


def find_checkout() -> Path | None:
    """Give the checkout that the command runs in or was installed from, None in an image."""
    from wetread_embedded.config import find_checkout as find  # noqa: PLC0415 - brings more than most commands need

    try:
        return find()
    except FileNotFoundError:
        return None


def default_state(checkout: Path | None) -> Path:
    """Give the state folder that is meant where none is named."""
    return checkout / "build" / "state" if checkout else IMAGE_STATE
