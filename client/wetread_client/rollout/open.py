"""Opens a rollout store from its address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wetread_client.rollout.document import RolloutError
from wetread_client.rollout.folder_store import FolderStore

if TYPE_CHECKING:
    from wetread_client.rollout.store import RolloutStore


def open_store(url: str) -> RolloutStore:
    """Open the store at a folder's path or at etcd://host:port/prefix. Nothing is reached before it is used.

    Raises:
        RolloutError: the address is neither, or the library for etcd is not installed.
    """
    if "://" not in url:
        return FolderStore(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(parts.path))
    if parts.scheme not in ("etcd", "etcds"):
        raise RolloutError(f"{url}: a rollout store is a folder or etcd://host:port/prefix (etcds:// with TLS)")
    from wetread_client.rollout.etcd_store import EtcdStore  # noqa: PLC0415 -- needs etcd3gw

    return EtcdStore.at(url)
