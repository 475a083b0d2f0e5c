"""What all tests share: the real images, the servers that one worker starts once, and how work is dealt to workers.

`make test` runs several workers. Each starts a server at most once; tests that share one run on the same worker.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from kept_alive import HUNG, KeptAlive
from postgres_server import fresh_database, postgres_server
from tiers import IS_FULL
from wetread_embedded import ServerConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

CHECKOUT = Path(__file__).parents[1]
SHARED = ("server", "series_server", "release_server", "orthanc", "_postgres")
"""Fixtures that start a server once in a session, dearest first."""

# Kernels are compiled once for all workers and servers; `make` does so before the first test.
os.environ.setdefault("NUMBA_CACHE_DIR", str(CHECKOUT / "build" / "kernels"))
# The same examples in every run of `make test`; the full tier looks for new ones.
settings.register_profile("wetread", deadline=None, derandomize=not IS_FULL, database=None)
settings.load_profile("wetread")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collection, a third faster: what is imported now stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Deal a file out whole, and with it the files that share its servers."""
    item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with long work, so that all workers end together."""
    items.sort(key=_is_quick)  # stable: a file's order is kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what servers said that did not start in time and were started once more."""
    if hasattr(terminalreporter.config, "workerinput"):
        return  # a worker's report is shown to nobody
    for log in sorted(HUNG.glob("*.log")):
        terminalreporter.section(f"a server did not start in time: {log.name}")
        terminalreporter.write_line(log.read_text())
        log.unlink()


def _group(item: pytest.Item) -> str:
    assert isinstance(item, pytest.Function)
    session = _session_fixtures(item)
    shared = next((name for name in SHARED if name in session), None)
    return f"{item.path.parent.name} with {shared}" if shared else item.path.stem


def _session_fixtures(item: pytest.Function) -> set[str]:
    """Names of an item's fixtures that live as long as the session."""
    found = item._fixtureinfo.name2fixturedefs
    return {name for name, definitions in found.items() if definitions[-1].scope == "session"}


def _is_quick(item: pytest.Item) -> bool:
    return not any(item.get_closest_marker(name) for name in ("triton", "pacs", "slow"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images; tests that need it are skipped without."""
    folder = Path(os.environ.get("WETREAD_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real images: set WETREAD_DATA")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptAlive]:
    """A running Triton with the pipelines of this checkout."""
    store = tmp_path_factory.mktemp("store")
    with KeptAlive(ServerConfig.on_free_ports(root=CHECKOUT, store=store, startup_timeout_s=240.0)) as running:
        yield running


@pytest.fixture(scope="session")
def _postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def postgres(_postgres: str) -> str:
    """Address of an empty database of a running PostgreSQL."""
    return fresh_database(_postgres)
