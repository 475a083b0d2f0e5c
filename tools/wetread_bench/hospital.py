"""A small hospital on loopback: a PACS (Orthanc), a Triton, and the gateway between them, each a real one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.config import find_checkout

from wetread_bench.orthanc import Modality, Orthanc
from wetread_bench.servers import ENVIRONMENT, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

AE_TITLE, STAT_AE_TITLE = "WETREAD", "WETREAD_STAT"
START_S = 180.0  # of a machine that is busy
STOP_S = 120.0


class GatewayEnded(Exception):
    """The gateway did not come up; the message holds the end of its log."""


class Destination(Protocol):
    """Where the gateway sends results to."""

    @property
    def ae_title(self) -> str:
        """Its name."""

    @property
    def host(self) -> str:
        """Its address."""

    @property
    def dicom_port(self) -> int:
        """Its port."""


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What a test wants of its gateway: a rule for films, and more.

    `match`: whom the rule is for. `extra`: more TOML, at the end. `sections`: lines added to a table by name.
    """

    pipeline: str = "chest_xray"
    match: str = 'modality = ["CR", "DX", "RG"]'
    any_body_part: bool = True
    verify: str = "commitment"
    sections: tuple[tuple[str, str], ...] = ()
    extra: str = ""


class GatewayProcess:
    """`wetread gateway` as an operator starts it, on free ports, with its state in `folder`."""

    def __init__(
        self, folder: Path, plan: GatewayPlan, triton_url: str, pacs: Destination, ports: tuple[int, int]
    ) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"
        self.log = folder / "gateway.log"
        self.state = folder / "state"
        self.dicom_port, self.http_port = ports
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._toml(plan, triton_url, pacs))

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Its HTTP door."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until both doors are open; GatewayEnded when it ends instead."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("wetread")), "gateway", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | ENVIRONMENT,
            )
        if wait:
            self.wait_open()

    def wait_open(self) -> None:
        """Wait until both doors are open."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while not all(_listens(port) for port in (self.dicom_port, self.http_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise GatewayEnded(self.log.read_text(errors="replace")[-3000:])
            time.sleep(0.02)

    def stop(self) -> int | None:
        """Stop it in order; its exit code."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process = None

    def kill(self) -> None:
        """End the supervisor as a power cut does; the kernel takes its processes along."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def processes(self) -> dict[str, int]:
        """Give the pids of its processes by slot, as they are now."""
        found = {}
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in children:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"wetread_gateway.process" in words:
                    found[words[words.index(b"wetread_gateway.process") + 2].decode()] = int(pid)
        return found

    def _toml(self, plan: GatewayPlan, triton_url: str, pacs: Destination) -> str:
        sections = {
            "gateway": f'state_dir = "{self.state}"\n',
            "dicom": f'ae_title = "{AE_TITLE}"\nstat_ae_title = "{STAT_AE_TITLE}"\n'
            f"port = {self.dicom_port}\nany_peer = true\n",
            "http": f"port = {self.http_port}\n",
            "triton": f'url = "{triton_url}"\n',
        }
        for name, lines in plan.sections:
            sections[name] = sections.get(name, "") + lines.rstrip("\n") + "\n"
        text = "\n".join(f"[{name}]\n{lines}" for name, lines in sections.items())
        return (
            f"{text}\n[[destination]]\n"
            f'name = "pacs"\nae_title = "{pacs.ae_title}"\nhost = "{pacs.host}"\nport = {pacs.dicom_port}\n'
            f'verify = "{plan.verify}"\n\n[[rule]]\nname = "films"\npipeline = "{plan.pipeline}"\n'
            f'destinations = ["pacs"]\nany_body_part = {str(plan.any_body_part).lower()}\n'
            f"match.{plan.match}\n{plan.extra}\n"
        )


class Hospital:
    """PACS, Triton and gateway, all running; a context that leaves no process behind.

    `folder`: kept when given, else a temporary one. `triton`: a server that runs already. `lua`: of the PACS.
    """

    def __init__(
        self,
        folder: Path | None = None,
        plan: GatewayPlan | None = None,
        *,
        triton: EmbeddedTriton | None = None,
        lua: str = "",
        options: dict[str, object] | None = None,
    ) -> None:
        self._given, self._folder = folder, folder
        self._plan = plan or GatewayPlan()
        self._lua, self._options = lua, options or {}
        self._triton = triton
        self._closing = ExitStack()

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        assert self._folder is not None
        return self._folder

    @property
    def triton(self) -> EmbeddedTriton:
        """The server that reads."""
        assert self._triton is not None
        return self._triton

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="hospital-"))
                stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            if self._triton is None:
                config = ServerConfig.on_free_ports(root=find_checkout(), store=self._folder / "served")
                self._triton = stack.enter_context(EmbeddedTriton(config))
            ports = (free_port(), free_port())
            stat = Modality(AE_TITLE, ports[0])
            # What a busy gateway does not take in time is not forwarded again.
            options = {"DicomScuTimeout": 60} | self._options
            pacs = Orthanc(self._folder / "pacs", modalities={"wetread": stat}, lua=self._lua, options=options)
            self.pacs = stack.enter_context(pacs)
            self.gateway = GatewayProcess(self._folder / "gateway", self._plan, self._triton.http_url, self.pacs, ports)
            stack.callback(self.gateway.stop)
            self.gateway.start()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def storescu(self, films: Sequence[Path], *arguments: str, called: str = AE_TITLE) -> int:
        """Send films over one association with DCMTK's storescu; its exit code, 0 when every one got Success."""
        return storescu(self.gateway.dicom_port, films, *arguments, called=called).returncode


def storescu(
    port: int, films: Sequence[Path], *arguments: str, called: str = AE_TITLE, calling: str = "MODALITY"
) -> subprocess.CompletedProcess[str]:
    """Send films over one association with DCMTK's storescu, required contexts alone (`-R`)."""
    command = ["storescu", "-R", "-aec", called, "-aet", calling, *arguments, "127.0.0.1", str(port)]
    return subprocess.run(
        [*command, *map(str, films)], capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT
    )


def acknowledged(log: str) -> list[str]:
    """Give the files that storescu's verbose log (`-v`) says got Success."""
    found, current = [], ""
    for line in log.splitlines():
        if sent := re.search(r"Sending file: (.+)$", line):
            current = sent.group(1)
        elif "Received Store Response (Success)" in line:
            found.append(current)
    return found


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
