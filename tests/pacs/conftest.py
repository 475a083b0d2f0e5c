"""A real PACS for the tests: one Orthanc for all of them, which knows the AE that each test listens as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wetread_bench.orthanc import Orthanc, missing
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.config import find_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def orthanc() -> Iterator[Orthanc]:
    """A running Orthanc without TLS, shared: tests look for their own UIDs, and `set_modality` names their AE."""
    if absent := missing():
        pytest.skip(absent)
    with Orthanc() as running:
        yield running


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """A running Triton with the pipelines of this checkout, for every hospital."""
    store = tmp_path_factory.mktemp("served")
    with EmbeddedTriton(ServerConfig.on_free_ports(root=find_checkout(), store=store)) as running:
        yield running
