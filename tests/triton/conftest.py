"""Real servers for the tests: one with the pipelines of this checkout, and tiny ones whose models misbehave."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_repository import TinyRepository
from wetread_embedded import EmbeddedTriton, ServerConfig

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """A running server with the pipelines of this checkout."""
    store = tmp_path_factory.mktemp("store")
    with EmbeddedTriton(ServerConfig.on_free_ports(root=CHECKOUT, store=store)) as running:
        yield running


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    """A repository in which every model is a few lines, to be served by the test."""
    return TinyRepository(tmp_path / "root")
