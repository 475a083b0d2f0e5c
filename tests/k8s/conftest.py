"""The running stack for the tests of what a cluster scrapes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from live_stack import LiveStack, missing_programs, start
from rules import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kept_alive import KeptAlive


@pytest.fixture(scope="module")  # not a session's: it would keep a core busy under all tests that come later
def live_stack(server: KeptAlive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The real stack with films read through it, and a Prometheus over it, for all tests."""
    if absent := missing_programs():
        pytest.skip(absent)
    with ExitStack() as stack:
        yield start(stack, tmp_path_factory.mktemp("live"), server, {"groups": groups()})
