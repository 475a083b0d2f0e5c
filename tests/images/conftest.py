"""The images that were built, and the demo image running: its Triton reads for the gateway's image, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from wetread_bench.demo import write_films
from wetread_bench.servers import free_port

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "images"))

from buildah import Buildah, absent  # noqa: E402
from container import Mount  # noqa: E402
from image_site import USER, Site, running  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def buildah() -> Buildah:
    """The storage with the images; skipped where nothing can be built."""
    if lacks := absent():
        pytest.skip(lacks)
    return Buildah()


@pytest.fixture(scope="session")
def demo(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running demo image."""
    folder = tmp_path_factory.mktemp("all-in-one")
    with running(buildah, "all-in-one", folder, free_port(), "/etc/wetread/gateway.toml") as site:
        yield site


@pytest.fixture(scope="session")
def gateway(buildah: Buildah, demo: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running gateway image."""
    with running(buildah, "gateway", tmp_path_factory.mktemp("gateway"), demo.triton_port) as site:
        yield site


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Synthetic films, one for each test that reads."""
    return write_films(ROOT, tmp_path_factory.mktemp("films"), (1, 6))


@pytest.fixture
def store_mounts(tmp_path: Path) -> tuple[list[Mount], Path]:
    """The folders that a pod gives the release agent: state and the served models."""
    folders = {"/var/lib/wetread": tmp_path / "state", "/models": tmp_path / "models"}
    for folder in folders.values():
        folder.mkdir()
        os.chown(folder, USER, USER)
    return [Mount(folder, target, writable=True) for target, folder in folders.items()], folders["/models"]
