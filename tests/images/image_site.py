"""A built image with a gateway in it, running on free ports, with a sink as its PACS."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from container import Container, Mount
from wetread_bench.servers import free_port, listens, storescp

from build import tag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildah import Buildah

USER = 10001
_CONFIG = """
[gateway]
state_dir = "/var/lib/wetread/gateway"
[dicom]
ae_title = "WETREAD"
port = {dicom}
any_peer = true
[http]
port = {http}
[triton]
url = "http://127.0.0.1:{triton}"
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
verify = "none"
[[rule]]
name = "films"
pipeline = "chest_xray"
destinations = ["pacs"]
any_body_part = true
match.modality = ["DX", "CR", "RG"]
"""


@dataclass(frozen=True)
class Site:
    """A running container, its doors, and what the PACS got from it."""

    container: Container
    dicom_port: int
    http_port: int
    triton_port: int
    state: Path
    pacs: Path
    ready_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


def built(buildah: Buildah, name: str) -> str:
    """Give the tag of an image; skipped where it was not built."""
    if not buildah.has(tag(name)):
        pytest.skip(f"{tag(name)} is not built (make images)")
    return tag(name)


@contextmanager
def running(buildah: Buildah, name: str, folder: Path, triton_port: int, *words: str) -> Iterator[Site]:
    """Run an image with a gateway in it, with a sink as its PACS."""
    dicom, http = free_port(), free_port()
    state, config = folder / "state", folder / "config"
    state.mkdir()
    os.chown(state, USER, USER)
    config.mkdir(mode=0o755)
    with storescp(folder / "pacs") as pacs:
        toml = _CONFIG.format(dicom=dicom, http=http, triton=triton_port, pacs=pacs)
        (config / "gateway.toml").write_text(toml)
        mounts = [Mount(state, "/var/lib/wetread", writable=True), Mount(config, "/etc/wetread")]
        with Container(buildah, built(buildah, name), mounts, folder / "container.log") as container:
            container.start(*words)
            ready_s = container.wait_until(lambda: listens(dicom) and listens(http))
            yield Site(container, dicom, http, triton_port, state, folder / "pacs", ready_s)
