"""A repository of tiny models, and the server that each test starts over it."""

from pathlib import Path

import pytest
from tiny_repository import TinyRepository


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    """A repository in which every model is a few lines, to be served by the test."""
    return TinyRepository(tmp_path / "root")
