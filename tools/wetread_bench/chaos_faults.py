"""What goes wrong in the chaos run, and when: kills at random moments, the PACS down twice, once a full disk."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from wetread_embedded import EmbeddedTriton
from wetread_embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wetread_bench.chaos_disk import SmallDisk
    from wetread_bench.hospital import GatewayProcess
    from wetread_bench.orthanc import Orthanc

LOG = logging.getLogger(__name__)

_FIND_S = 20.0  # a victim that is just being started anew is waited for
_POLL_S = 0.05


class Fault(StrEnum):
    """What can be done to the hospital."""

    SUPERVISOR = "supervisor"
    PROCESS = "a process of the gateway"
    TRITON = "tritonserver"
    STUB = "a model's stub"
    PACS = "PACS down"
    DISK = "disk full"


KILLS: Mapping[Fault, int] = {Fault.SUPERVISOR: 3, Fault.PROCESS: 6, Fault.TRITON: 1, Fault.STUB: 2}
"""The kills, and how often each in twelve."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, and the share of the whole trip after which it comes."""

    at: float
    fault: Fault


def plan_faults(kills: int, seed: int, *, outages: int = 2, full_disks: int = 1) -> list[Planned]:
    """Spread the faults over the run: every kind of kill in its share, all at random moments, seeded."""
    chance = random.Random(seed)  # noqa: S311 -- a plan, no secret
    kinds = [kind for kind, weight in KILLS.items() for _ in range(weight)]
    chosen = [kinds[number % len(kinds)] for number in range(kills)]
    faults = [Planned(chance.uniform(0.02, 0.95), kind) for kind in chosen]
    faults += [Planned(chance.uniform(0.1, 0.9), Fault.PACS) for _ in range(outages)]
    faults += [Planned(chance.uniform(0.2, 0.8), Fault.DISK) for _ in range(full_disks)]
    return sorted(faults, key=lambda planned: planned.at)


class Services:
    """What systemd does in a hospital: starts Triton and the gateway again whenever they have ended."""

    def __init__(self, triton: EmbeddedTriton, gateway: GatewayProcess) -> None:
        self.triton = triton
        http, grpc, metrics = triton.ports  # the gateway knows them
        self._config = replace(triton.config, http_port=http, grpc_port=grpc, metrics_port=metrics)
        self._gateway = gateway
        self._stop = threading.Event()
        self.restarts: Counter[str] = Counter()
        self.restart_s = 0.3
        self._threads = [
            threading.Thread(target=self._keep_gateway, name="systemd-gateway"),
            threading.Thread(target=self._keep_triton, name="systemd-triton"),
        ]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the watch: what runs keeps running, what ends from now on stays so."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep_gateway(self) -> None:
        while not self._stop.wait(_POLL_S):
            if not self._gateway.is_running and not self._stop.wait(self.restart_s):
                self._gateway.start(wait=False)
                self.restarts["gateway"] += 1

    def _keep_triton(self) -> None:
        while not self._stop.wait(_POLL_S):
            if not self.triton.is_running:
                self.triton.stop()
                self.triton = EmbeddedTriton(self._config)
                try:
                    self.triton.start()
                except EmbeddedError:
                    LOG.exception("tritonserver did not come up and is started once more")
                self.restarts["tritonserver"] += 1


class Faults:
    """Does what was planned, when its moment has come. `hurry`: set while films shall come however many wait."""

    def __init__(
        self,
        planned: list[Planned],
        services: Services,
        gateway: GatewayProcess,
        pacs: Orthanc,
        disk: SmallDisk | None,
        hurry: threading.Event,
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self._planned = list(planned)
        self._services, self._gateway, self._pacs, self._disk = services, gateway, pacs, disk
        self._hurry = hurry
        self._chance = random.Random(seed + 1)  # noqa: S311
        self._tell = tell
        self._lasting: list[threading.Thread] = []
        self.pacs_lock = threading.Lock()
        """Held while the PACS is down."""
        self.done: Counter[str] = Counter()
        self.victims: Counter[str] = Counter()

    @property
    def kills(self) -> int:
        """How many processes were killed (-9)."""
        return sum(self.done[kind] for kind in KILLS)

    @property
    def is_over(self) -> bool:
        """Whether everything planned has happened and has passed."""
        return not self._planned and not any(thread.is_alive() for thread in self._lasting)

    def poll(self, share: float) -> None:
        """Do the next thing planned if `share` of the trip is past its moment."""
        if not self._planned or share < self._planned[0].at:
            return
        fault = self._planned.pop(0).fault
        time.sleep(self._chance.uniform(0.0, 0.4))  # between two looks at the progress
        if fault is Fault.PACS:
            self._last(self._pacs_down)
        elif fault is Fault.DISK:
            self._last(self._disk_full)
        elif victim := self._kill(fault):
            self.done[fault] += 1
            self.victims[victim] += 1
            self._tell(f"{share:6.1%}  kill -9: {victim}")
        else:
            self._tell(f"{share:6.1%}  nothing found to kill: {fault}")

    def finish(self) -> None:
        """Wait until what lasts a while is over."""
        for thread in self._lasting:
            thread.join()

    def _last(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what)
        thread.start()
        self._lasting.append(thread)

    def _kill(self, fault: Fault) -> str:
        """Kill one process of a kind; its name, empty when there was none for a long time."""
        deadline = time.monotonic() + _FIND_S
        while time.monotonic() < deadline:
            if victims := self._victims(fault):
                name, pid = self._chance.choice(sorted(victims))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it was quicker
                return name
            time.sleep(_POLL_S)
        return ""

    def _victims(self, fault: Fault) -> list[tuple[str, int]]:
        triton = self._services.triton
        if fault is Fault.SUPERVISOR:
            return [("supervisor", self._gateway.pid)] if self._gateway.is_running else []
        if fault is Fault.PROCESS:
            return list(self._gateway.processes().items()) if self._gateway.is_running else []
        if not triton.is_running:
            return []
        if fault is Fault.TRITON:
            return [("tritonserver", triton.pid)]
        return [(f"stub of {model}", pid) for model, pids in triton.stub_pids().items() for pid in pids]

    def _pacs_down(self) -> None:
        seconds = self._chance.uniform(5.0, 10.0)
        with self.pacs_lock:
            self._pacs.kill()
            self._tell(f"        the PACS is down for {seconds:.1f} s")
            time.sleep(seconds)
            self._pacs.start()
            self.done[Fault.PACS] += 1
        self._tell("        the PACS is up again")

    def _disk_full(self) -> None:
        if self._disk is None:
            return
        seconds = self._chance.uniform(3.0, 6.0)
        taken = self._disk.fill()
        self._tell(f"        the disk is full for {seconds:.1f} s ({taken >> 20} MiB of ballast)")
        self._hurry.set()  # nothing comes back now, and yet the modalities shall meet the full disk
        time.sleep(seconds)
        self._disk.empty()
        self._hurry.clear()
        self.done[Fault.DISK] += 1
        self._tell("        the disk has room again")
