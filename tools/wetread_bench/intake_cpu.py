"""Where the time goes: CPU a film by process of the trip, and the gateway's own stages."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from wetread_bench.processes import CpuUse, Snapshot, busy_s, by_class, cpu_use, descendants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wetread_bench.hospital import Hospital

_STAGE_SECONDS = "wetread_gateway_stage_seconds"


@dataclass(frozen=True, slots=True)
class Accounts:
    """What everything has used up to now."""

    classes: Mapping[str, list[int]]
    cpu: Snapshot
    storescu: CpuUse
    harness: CpuUse
    busy_s: float
    stages: Mapping[str, tuple[float, float]]
    """Seconds and items by stage of the gateway."""


def take_accounts(hospital: Hospital) -> Accounts:
    """Look at every process of the trip."""
    classes = _classes(hospital)
    return Accounts(
        classes,
        cpu_use(pid for pids in classes.values() for pid in pids),
        _usage(resource.RUSAGE_CHILDREN),
        _usage(resource.RUSAGE_SELF),
        busy_s(),
        stage_seconds(hospital.gateway.url),
    )


def between(before: Accounts, after: Accounts, films: int) -> dict[str, object]:
    """Give milliseconds of CPU a film by process, of all cores together, and a film's time in each stage."""
    used = by_class(after.classes, before.cpu, after.cpu)
    used["storescu"], used["harness"] = after.storescu - before.storescu, after.harness - before.harness
    cpu = {
        name: {"user_ms": round(use.user_s * 1e3 / films, 3), "system_ms": round(use.system_s * 1e3 / films, 3)}
        for name, use in sorted(used.items(), key=lambda item: -item[1].total_s)
    }
    accounted = sum(use.total_s for use in used.values())
    stages = {}
    for stage, (seconds, items) in after.stages.items():
        earlier_s, earlier = before.stages.get(stage, (0.0, 0.0))
        if items > earlier:
            stages[stage] = round((seconds - earlier_s) / (items - earlier) * 1e3, 3)
    busy = after.busy_s - before.busy_s
    return {
        "cpu_ms_per_film": cpu,
        "cpu_ms_per_film_all": round(accounted * 1e3 / films, 2),
        "other_cpu_ms_per_film": round((busy - accounted) * 1e3 / films, 2),
        "stage_ms": stages,
    }


def stage_seconds(url: str) -> dict[str, tuple[float, float]]:
    """Read the gateway's metrics: seconds and items by stage."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=10.0).raise_for_status().text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (f"{_STAGE_SECONDS}_sum", f"{_STAGE_SECONDS}_count"):
                stage = found.setdefault(sample.labels["stage"], {"sum": 0.0, "count": 0.0})
                stage[sample.name.rsplit("_", 1)[1]] += sample.value
    return {stage: (values["sum"], values["count"]) for stage, values in found.items()}


def _classes(hospital: Hospital) -> dict[str, list[int]]:
    classes: dict[str, list[int]] = {"gateway supervisor": [hospital.gateway.pid]}
    for slot, pid in hospital.gateway.processes().items():
        classes.setdefault(f"gateway {slot.split('-')[0]}", []).extend([pid, *descendants(pid)])
    stubs = hospital.triton.stub_pids()
    classes["tritonserver"] = [hospital.triton.pid]
    for model, pids in stubs.items():
        classes.setdefault(f"triton {model}", []).extend([*pids, *(c for pid in pids for c in descendants(pid))])
    classes["PACS"] = [hospital.pacs.pid]
    return classes


def _usage(who: int) -> CpuUse:
    found = resource.getrusage(who)
    return CpuUse(found.ru_utime, found.ru_stime, found.ru_minflt)
