"""`wetread bench intake`: how fast the door takes films durably, and how soon and how many come back as reports."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from wetread_gateway.config.settings import Intake
from wetread_models.synthetic import LABELS, FilmModel

from wetread_bench.chaos_films import BITS as SMALL_BITS
from wetread_bench.chaos_films import SIDE as SMALL_SIDE
from wetread_bench.document import Document
from wetread_bench.fresh_films import FilmTemplate, Identity
from wetread_bench.hospital import GatewayPlan, Hospital
from wetread_bench.inputs import BITS, COUNT, SIDE, data_folder, prepare
from wetread_bench.intake_door import DoorPlan, DoorResult, bench_door
from wetread_bench.intake_report import report_build_ms
from wetread_bench.intake_senders import Line
from wetread_bench.intake_stat import StatResult, stat_under_overload
from wetread_bench.intake_trip import DRAIN_S, Road, Trip, highest_sustained, straight_to_the_pacs
from wetread_bench.intake_watch import StoredWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import FileDataset

LATENCY_RATE, SUSTAINED_RATE = 5.0, 25.0
FULL_SECONDS, FULL_INSTANCES = 120.0, 2000
PROBE_RATES = (25.0, 30.0, 35.0, 40.0, 50.0, 60.0)
PROBE_STEP_DOWN = (20.0, 15.0, 10.0, 5.0)
SMALL_RATE = 40.0
_BATCH = 5  # films of one association: a study or two
_MEMORY = Path("/dev/shm")  # noqa: S108 -- the modalities' own disks are no part of what is measured
_RULE = "unknown_age_is_inside = true\n"  # the films of the benchmark tell no age


@dataclass(frozen=True, slots=True)
class IntakePlan:
    """What to measure and for how long; `films`: of the benchmark's sixteen, and as many synthetic ones."""

    seconds: float = FULL_SECONDS
    probe_seconds: float = 20.0
    stat_seconds: float = 60.0
    straight_seconds: float = 10.0
    latency_rate: float = LATENCY_RATE
    sustained_rate: float = SUSTAINED_RATE
    probe_rates: tuple[float, ...] = PROBE_RATES
    films: int = COUNT
    door_instances: int = FULL_INSTANCES
    overload_age_s: float = Intake().overload_age_s
    seed: int = 9

    @property
    def is_full(self) -> bool:
        """Whether a result of this plan may be published."""
        whole = self.latency_rate == LATENCY_RATE and self.sustained_rate >= SUSTAINED_RATE
        long = self.seconds >= FULL_SECONDS and self.stat_seconds > 0 and self.door_instances >= FULL_INSTANCES
        return whole and long and self.films == COUNT


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What the bench found. `best`: the highest rate held for the full time; None: none was held."""

    door: DoorResult
    latency: Trip
    sustained: Trip
    best: Trip | None
    probes: tuple[Trip, ...]
    straight_per_s: float
    small_per_s: float
    stat: StatResult | None
    build_ms: dict[str, float]
    inputs: dict[str, object]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers that a reader judges by."""
        per_s = self.best.films_per_s if self.best else 0.0
        found = self.door.figures | {
            "film_to_sr_p50_ms": self.latency.report_p50_ms,
            "film_to_sr_p99_ms": self.latency.report_p99_ms,
            "films_to_sr_per_s": per_s,
            "sr_build_ms": self.build_ms["sr"],
            "trip_over_straight_to_pacs": round(per_s / self.straight_per_s, 3) if self.straight_per_s else 0.0,
        }
        if self.stat is not None:
            found["stat_p99_over_unloaded_at_500"] = round(self.stat.p99_ratio, 2)
        return found

    @property
    def is_whole(self) -> bool:
        """Whether the door took everything, and every film of the two main trips came back."""
        return self.door.acknowledged == self.door.instances and self.latency.is_whole and self.sustained.is_whole

    @property
    def measurements(self) -> dict[str, object]:
        """Everything, for the document."""
        content = asdict(self)
        content.pop("inputs")
        return content


class _Bench:
    """One hospital, one measurement after the other."""

    def __init__(self, checkout: Path, output: Path, plan: IntakePlan, tell: Callable[[str], None]) -> None:
        self._checkout, self._output, self._plan, self._tell = checkout, output, plan, tell

    def run(self) -> IntakeResult:
        plan = self._plan
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wetread-intake-")))
            memory = _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 << 30 else folder
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wetread-films-", dir=memory)))
            films, inputs = self._films()
            small = synthetic_templates(self._checkout, 4, SMALL_SIDE, SMALL_BITS)
            watch = stack.enter_context(StoredWatch(folder / "watch"))
            intake = ("intake", f"overload_age_s = {plan.overload_age_s}")
            gateway = GatewayPlan(sections=(intake,), extra=_RULE)
            hospital = stack.enter_context(Hospital(folder, gateway, lua=watch.lua))
            road = Road(hospital, watch, films, out, plan.seed)
            self._tell("warming up")
            road.travel(Line(plan.latency_rate, min(5.0, plan.seconds)))
            door = self._door(hospital)
            latency = self._travel(road, plan.latency_rate, plan.seconds, 1)
            sustained = self._travel(road, plan.sustained_rate, plan.seconds, _BATCH)
            best, probes = self._highest(road, sustained)
            stat, small_per_s = None, 0.0
            if plan.stat_seconds:
                stat, small_per_s = self._stat(road, watch, small)
            self._tell("the report by itself")
            one = Identity(plan.seed + 1, 1)
            film = films[-1].write(out / "one.dcm", one)
            build_ms = report_build_ms(hospital.triton.http_url, film, one.study_uid)
            self._tell("storescu straight to the PACS")
            straight = straight_to_the_pacs(hospital.pacs, films, out, plan.straight_seconds, plan.seed + 2, rate=200.0)
            return IntakeResult(
                door, latency, sustained, best, tuple(probes), round(straight, 1), small_per_s, stat, build_ms, inputs
            )

    def _door(self, hospital: Hospital) -> DoorResult:
        """The door by itself, and until what came through it is sorted: no rule wants it."""
        receivers = [pid for slot, pid in hospital.gateway.processes().items() if slot.startswith("receiver")]
        plan, data = DoorPlan(self._plan.door_instances), data_folder(self._checkout)
        found = bench_door(hospital.gateway.dicom_port, hospital.folder, plan, receivers, data)
        self._tell(
            f"door: {found.instances_per_s:.0f} instances/s of 512 KB over {plan.associations} associations, "
            f"a plain SCP {found.naive_instances_per_s:.0f}/s, an fsync {found.fsync_ms:.2f} ms"
        )
        deadline = time.monotonic() + DRAIN_S
        while any((hospital.gateway.state / "spool" / "received").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)  # the folder is the queue
        return found

    def _travel(self, road: Road, rate: float, seconds: float, batch: int) -> Trip:
        trip = road.travel(Line(rate, seconds, batch=batch))
        self._told(trip)
        return trip

    def _told(self, trip: Trip) -> None:
        held = "queue stands still" if trip.is_sustained else "QUEUE GROWS" if trip.is_whole else "NOT ALL CAME BACK"
        self._tell(
            f"{trip.rate:5.1f}/s for {trip.seconds:.0f} s: {trip.reports} reports of {trip.films} films, "
            f"p50 {trip.report_p50_ms:.0f} ms, p99 {trip.report_p99_ms:.0f} ms, {held} "
            f"({trip.backlog_growth_per_s:+.2f}/s, {trip.backlog_end} at the end) {trip.troubles or ''}"
        )

    def _highest(self, road: Road, sustained: Trip) -> tuple[Trip | None, list[Trip]]:
        """Find the highest rate by short trips, then hold it for the full time, or the next lower one."""
        plan = self._plan
        rates = [rate for rate in plan.probe_rates if rate > sustained.rate]
        if not sustained.is_sustained:
            rates = []
        found, probes = highest_sustained(
            lambda rate: road.travel(Line(rate, plan.probe_seconds, batch=_BATCH)), rates, self._told
        )
        while found is not None:
            held = self._travel(road, found.rate, plan.seconds, _BATCH)
            if held.is_sustained:
                return held, probes
            lower = [trip for trip in probes if trip.rate < found.rate]
            found = lower[-1] if lower else None
        if sustained.is_sustained:
            return sustained, probes
        for rate in (rate for rate in PROBE_STEP_DOWN if rate < sustained.rate):
            held = self._travel(road, rate, plan.seconds, _BATCH)
            probes.append(held)
            if held.is_sustained:
                return held, probes
        return None, probes

    def _stat(self, road: Road, watch: StoredWatch, small: Sequence[FilmTemplate]) -> tuple[StatResult, float]:
        plan = self._plan
        line = Line(SMALL_RATE, min(plan.stat_seconds, 20.0), batch=_BATCH)
        with road.sending(line, small) as loop:
            pass
        road.await_back(loop.sent)
        reports = [one.at for one in watch.stored() if one.kind == "report"][-len(loop.sent) :]
        capacity = len(reports) / (reports[-1] - reports[0]) if len(reports) > 1 else plan.sustained_rate
        result = stat_under_overload(road, watch.stored, small, plan.stat_seconds, capacity)
        self._tell(
            f"STAT p99 {result.unloaded_p99_ms:.0f} ms alone, {result.loaded_p99_ms:.0f} ms among "
            f"{result.routine_offered_per_s:.0f} routine films/s offered "
            f"({result.stat_back} of {result.stat_films} back)"
        )
        return result, round(capacity, 1)

    def _films(self) -> tuple[list[FilmTemplate], dict[str, object]]:
        """The benchmark's films and as many synthetic ones: the former lie outside the intended use (a hip)."""
        self._tell("the films: made once")
        inputs = prepare(self._output / "inputs", self._checkout, self._plan.films)
        films = [FilmTemplate(_aged(Path(file))) for file in inputs.files("raw")]
        drawn = synthetic_templates(self._checkout, self._plan.films, SIDE, BITS)
        films = [film for pair in zip(films, drawn, strict=True) for film in pair]
        told: dict[str, object] = {
            "films": f"{inputs.count} {inputs.source}, and as many SYNTHETIC chest films; new UIDs for each",
            "mean_bytes": round(sum(film.size for film in films) / len(films)),
            "sha256": inputs.sha256,
        }
        return films, told


def synthetic_templates(checkout: Path, count: int, side: int, bits: int) -> list[FilmTemplate]:
    """Draw so many synthetic chest films, square, of `side` pixels."""
    model = FilmModel.load(checkout / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
    return [
        FilmTemplate.of(model.dicom(number, LABELS[number % len(LABELS)], side, side, bits)) for number in range(count)
    ]


def _aged(file: Path) -> FileDataset:
    dataset = pydicom.dcmread(io.BytesIO(file.read_bytes()))
    dataset.PatientAge = "003Y"  # of the intended use, so that the report is a whole one
    return dataset


def bench_intake(checkout: Path, output: Path, plan: IntakePlan, tell: Callable[[str], None]) -> IntakeResult:
    """Measure the door and the whole trip."""
    return _Bench(checkout, output, plan, tell).run()


RESOLUTION = (
    "A report counts as stored when the PACS itself says so (OnStoredInstance, through a pipe): a moment late (about a "
    "millisecond), never early. The last byte is the moment that storescu ends a film's line of progress."
)


def intake_document(checkout: Path, plan: IntakePlan, result: IntakeResult, command: str) -> Document:
    """Write down what was found."""
    return Document.of(
        checkout,
        "intake",
        command,
        complete=plan.is_full and result.is_whole and result.best is not None,
        inputs=result.inputs,
        settings=asdict(plan),
        measurements=result.measurements,
        figures=result.figures,
        remarks=(RESOLUTION,),
    )
