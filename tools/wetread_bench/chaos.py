"""`wetread bench chaos`: what was acknowledged arrives, whatever is killed, switched off or full meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from wetread_embedded import EmbeddedTriton, ServerConfig

from wetread_bench.chaos_count import Outcome, dead_studies, holdings, judge
from wetread_bench.chaos_disk import NotPermitted, SmallDisk
from wetread_bench.chaos_faults import Fault, Faults, Services, plan_faults
from wetread_bench.chaos_films import FilmMaker, plan_films
from wetread_bench.chaos_senders import OUT_OF_RESOURCES, Ledger, Senders
from wetread_bench.document import Document
from wetread_bench.hospital import GatewayPlan, Hospital

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_bench.orthanc import Orthanc

FULL_INSTANCES, FULL_KILLS = 10_000, 60
WATERMARK_BYTES = 64 << 20
_BYTES_A_FILM = 2 << 20  # in the spool: the film, its report, its capture and the state store's share
_LOOK_S = 0.25
_QUIET_S = 5.0  # a second report for the same film would have come by then
_CONFIG = (("intake", f"watermark_free_bytes = {WATERMARK_BYTES}"),)


@dataclass(frozen=True, slots=True)
class ChaosPlan:
    """How much, and for how long at most."""

    instances: int = FULL_INSTANCES
    kills: int = FULL_KILLS
    seed: int = 9
    senders: int = 4
    stall_s: float = 180.0
    """Seconds without any progress after which the run is given up."""

    @property
    def is_full(self) -> bool:
        """Whether a result of this plan may be published."""
        return self.instances >= FULL_INSTANCES and self.kills >= FULL_KILLS


@dataclass(frozen=True, slots=True)
class ChaosResult:
    """What a run found."""

    document: Document
    outcome: Outcome
    disk_was_full: bool
    """And the modalities were told so."""

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost, nothing made twice, and exactly the bad films were given up."""
        return self.outcome.is_right


class _Run:
    """One run: the hospital, its modalities, and what happens to both."""

    def __init__(self, checkout: Path, folder: Path, plan: ChaosPlan, tell: Callable[[str], None]) -> None:
        self._checkout, self._folder, self._plan, self._tell = checkout, folder, plan, tell
        self.remarks: list[str] = []
        self.ledger = Ledger(plan_films(plan.instances, plan.seed), window=max(60, plan.instances // 10))
        self._stored = 0

    def go(self) -> tuple[Outcome, Faults, Services, float]:
        """Send everything, break everything, wait until all has settled, and count."""
        plan = self._plan
        with ExitStack() as stack:
            disk = self._disk(stack)
            config = ServerConfig.on_free_ports(root=self._checkout, store=self._folder / "served")
            triton = stack.enter_context(EmbeddedTriton(config))
            hospital = stack.enter_context(Hospital(self._folder, GatewayPlan(sections=_CONFIG), triton=triton))
            services = Services(triton, hospital.gateway)
            stack.callback(lambda: services.triton.stop())  # noqa: PLW0108 -- the one that runs then
            stack.callback(hospital.gateway.stop)  # before its Triton
            services.start()
            stack.callback(services.stop)
            planned = plan_faults(plan.kills, plan.seed, full_disks=int(disk is not None))
            faults = Faults(
                planned, services, hospital.gateway, hospital.pacs, disk, self.ledger.is_hurried, plan.seed, self._tell
            )
            stack.callback(faults.finish)
            began = time.monotonic()
            port = hospital.gateway.dicom_port
            maker = FilmMaker(self._checkout)
            with Senders(port, self.ledger, maker, self._folder / "out", at_once=plan.senders, seed=plan.seed):
                self._watch(hospital, faults)
            faults.finish()
            took = time.monotonic() - began
            self._settle(hospital.pacs)
            self._tell("counting what the PACS holds")
            dead = dead_studies(hospital.gateway.state / "spool")
            outcome = judge(self.ledger.films(), holdings(hospital.pacs), dead)
            self._explain(hospital, outcome)
            return outcome, faults, services, took

    def _disk(self, stack: ExitStack) -> SmallDisk | None:
        size = self._plan.instances * _BYTES_A_FILM + (1 << 30)
        try:
            return stack.enter_context(SmallDisk(self._folder / "gateway" / "state", size))
        except NotPermitted as error:
            self.remarks.append(f"without the full disk: {error}")
            self._tell(self.remarks[-1])
            return None

    def _watch(self, hospital: Hospital, faults: Faults) -> None:
        """Let things go wrong as the trip goes on, until all is sent and stored or nothing moves any more."""
        total = self._plan.instances
        last, moved_at, told_at = -1, time.monotonic(), 0.0
        while True:
            acknowledged = self.ledger.count
            ended = self._count(hospital.pacs, faults) + len(dead_studies(hospital.gateway.state / "spool"))
            self._stored = max(self._stored, ended)
            self.ledger.came_back(self._stored)
            share = (acknowledged + self._stored) / (2 * total)
            faults.poll(share)
            now = time.monotonic()
            if acknowledged + self._stored != last:
                last, moved_at = acknowledged + self._stored, now
            if now - told_at > 5.0:
                told_at = now
                self._tell(f"{share:6.1%}  acknowledged {acknowledged:>6}  reported or given up {self._stored:>6}")
            if faults.is_over and self.ledger.is_done and self._stored >= total:
                return
            if now - moved_at > self._plan.stall_s:
                self.remarks.append(f"given up: nothing moved for {self._plan.stall_s:.0f} s")
                self._tell(self.remarks[-1])
                return
            time.sleep(_LOOK_S)

    def _count(self, pacs: Orthanc, faults: Faults) -> int:
        """How many reports are in the PACS; none while it is down."""
        if not faults.pacs_lock.acquire(blocking=False):
            return 0
        try:
            found = pacs.post("/tools/find", {"Level": "Series", "Query": {"Modality": "SR"}})
        except (httpx.HTTPError, OSError):  # it was killed meanwhile
            return 0
        finally:
            faults.pacs_lock.release()
        return len(found)

    def _settle(self, pacs: Orthanc) -> None:
        """Wait until the PACS has got nothing new for a while."""
        change, quiet_since = pacs.last_change(), time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_S:
            time.sleep(_LOOK_S)
            if (now := pacs.last_change()) != change:
                change, quiet_since = now, time.monotonic()

    def _explain(self, hospital: Hospital, outcome: Outcome) -> None:
        """Let the gateway say what it thinks of the first films that did not end as they should."""
        wrong = (*outcome.lost, *outcome.not_delivered, *outcome.wrongly_read, *outcome.without_capture)
        by_number = {film.identity.number: film for film in self.ledger.films()}
        for number in list(dict.fromkeys(wrong))[:5]:
            words = ["gateway", "study", by_number[number].identity.study_uid, "--config", str(hospital.gateway.config)]
            command = [str(Path(sys.executable).with_name("wetread")), *words]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            self._tell(f"film {number} ({by_number[number].kind}):\n{told.stdout}{told.stderr}")
        if wrong or outcome.figures["duplicate_srs"]:
            kept = self._checkout / "build" / "bench" / "chaos-gateway.log"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(hospital.gateway.log, kept)


def bench_chaos(
    checkout: Path, plan: ChaosPlan, command: str, tell: Callable[[str], None], folder: Path | None = None
) -> ChaosResult:
    """Run it; the films and everything else are in a temporary folder (or `folder`) and go with it."""
    with tempfile.TemporaryDirectory(prefix="wetread-chaos-", dir=folder) as name:
        run = _Run(checkout, Path(name), plan, tell)
        outcome, faults, services, took = run.go()
    figures = {**outcome.figures, "kills": faults.kills}
    measurements: dict[str, object] = {
        "seconds": round(took, 1),
        "films_per_s": round(plan.instances / took, 2),
        "faults": {str(fault): times for fault, times in faults.done.items()},
        "killed": dict(faults.victims.most_common()),
        "restarted": dict(services.restarts),
        "sent": sum(run.ledger.acknowledged.values()),
        "answers_other_than_success": dict(run.ledger.answers.most_common()),
        "films_not_as_they_should_be": {
            name: list(numbers) for name, numbers in asdict(outcome).items() if name != "figures" and numbers
        },
    }
    full_disk = faults.done[Fault.DISK] > 0 and run.ledger.answers[OUT_OF_RESOURCES] > 0
    complete = plan.is_full and outcome.is_right and full_disk and faults.kills >= plan.kills
    document = Document.of(
        checkout,
        "chaos",
        command,
        complete=complete,
        inputs={"films": "SYNTHETIC chest films, 512 x 512, 16 bits, uncompressed DX", "count": plan.instances},
        settings=asdict(plan),
        measurements=measurements,
        figures=figures,
        remarks=tuple(run.remarks),
    )
    return ChaosResult(document, outcome, full_disk)
