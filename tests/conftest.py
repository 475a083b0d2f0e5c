"""What all tests share: this folder on the path (for `films`), and the real images where they are."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images; tests that need it are skipped without."""
    folder = Path(os.environ.get("WETREAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real images: set WETREAD_DATA")
    return folder
