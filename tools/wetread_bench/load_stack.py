"""What the load is put on: an embedded Triton, a gateway on SQLite, and a sink in the PACS's place."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.config import find_checkout

from wetread_bench.hospital import AE_TITLE, STAT_AE_TITLE, GatewayPlan, GatewayProcess
from wetread_bench.processes import descendants
from wetread_bench.servers import free_port, storescp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ONE_CORE = 1
"""`[triton] concurrency` where the whole stack has one core."""
LOCUSTFILE = Path("client") / "loadtest" / "locustfile.py"


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the results go: whatever comes is confirmed and thrown away."""

    dicom_port: int
    ae_title: str = "SINK"
    host: str = "127.0.0.1"


class LoadStack:
    """All of it, running; a context that leaves no process behind.

    `overload_age_s`: how old routine work grows before the doors take STAT alone. `core`: where Triton, its stubs and
    the gateway run, all of them; None: anywhere. `triton`: a server that runs already.
    """

    def __init__(
        self,
        checkout: Path,
        *,
        overload_age_s: float = 30.0,
        core: int | None = None,
        triton: EmbeddedTriton | None = None,
        folder: Path | None = None,
    ) -> None:
        self._checkout, self._age_s, self._core, self._triton = checkout, overload_age_s, core, triton
        self._folder = folder
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = self._folder
            if folder is None:
                folder = Path(tempfile.mkdtemp(prefix="wetread-load-"))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self.folder = folder
            sink = Sink(stack.enter_context(storescp(folder / "sink", arguments=("--ignore", "--fork"))))
            with pinned(self._core):
                if self._triton is None:
                    config = ServerConfig.on_free_ports(root=self._checkout, store=folder / "served")
                    self._triton = stack.enter_context(EmbeddedTriton(config))
                intake = ("intake", f"watermark_free_bytes = 1048576\noverload_age_s = {self._age_s:g}")
                # More films under way than cores are read no faster, and STAT finds them all before it.
                slots = () if self._core is None else (("triton", f"concurrency = {ONE_CORE}"),)
                plan = GatewayPlan(verify="none", sections=(intake, *slots))
                ports = (free_port(), free_port())
                self.gateway = GatewayProcess(folder / "gateway", plan, self._triton.http_url, sink, ports)
                stack.callback(self.gateway.stop)
                self.gateway.start()
            self.triton = self._triton
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def pids(self) -> list[int]:
        """Give the processes that are measured: Triton, the gateway, and what they have started."""
        roots = (self.triton.pid, self.gateway.pid)
        return [pid for root in roots for pid in (root, *descendants(root))]

    def options(self) -> dict[str, str]:
        """Give the load's options that say where everything is, as variables of the environment."""
        return {
            "WETREAD_LOAD_URL": self.gateway.url,
            "WETREAD_LOAD_DICOM": f"127.0.0.1:{self.gateway.dicom_port}",
            "WETREAD_LOAD_CALLED": AE_TITLE,
            "WETREAD_LOAD_CALLED_STAT": STAT_AE_TITLE,
            "WETREAD_LOAD_TRITON": self.triton.http_url,
            "WETREAD_LOAD_TRITON_GRPC": self.triton.grpc_url,
        }


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def locust(checkout: Path, options: Mapping[str, str], *arguments: str, quiet: bool = False) -> subprocess.Popen[bytes]:
    """Start locust without its web pages; exit code 0 when nothing failed and nothing was lost."""
    command = [str(Path(sys.executable).with_name("locust")), "-f", str(checkout / LOCUSTFILE), "--headless"]
    words: Sequence[str] = ("--only-summary", "--reset-stats", "--users", "6", "--spawn-rate", "100")
    out = subprocess.DEVNULL if quiet else None
    return subprocess.Popen([*command, *words, *arguments], env={**os.environ, **options}, stdout=out, cwd=checkout)


def main() -> None:
    """`make loadtest`: start everything, put a minute's load on it as the environment says, leave a report."""
    checkout = find_checkout()
    folder = checkout / "build" / "loadtest"
    folder.mkdir(parents=True, exist_ok=True)
    with LoadStack(checkout) as stack:
        options = {"WETREAD_LOAD_JSON": str(folder / "load.json"), **stack.options()}
        sys.exit(locust(checkout, options, "--html", str(folder / "load.html"), *sys.argv[1:]).wait())


if __name__ == "__main__":
    main()
