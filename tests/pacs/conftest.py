"""A real PACS for the tests: one Orthanc for all of them, which knows the AE that each test listens as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wetread_bench.orthanc import Orthanc, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_embedded import EmbeddedTriton


@pytest.fixture(scope="session")
def orthanc() -> Iterator[Orthanc]:
    """A running Orthanc without TLS, shared: tests look for their own UIDs, and `set_modality` names their AE."""
    if absent := missing():
        pytest.skip(absent)
    with Orthanc() as running:
        yield running


@pytest.fixture(scope="session")
def triton(server: EmbeddedTriton) -> EmbeddedTriton:
    """The running Triton that every hospital reads with."""
    return server
