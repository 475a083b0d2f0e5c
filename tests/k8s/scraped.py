"""Series for promtool: what a healthy stack tells, made of a recorded scrape and of what no recorded stack can tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

RECORDED = Path(__file__).parent / "recorded"
_TRITON = {"job": "wetread-triton", "namespace": "wetread", "pod": "wetread-triton-0"}
PODS = {
    "intake.txt": {"job": "wetread-intake", "namespace": "wetread", "pod": "wetread-intake-0", "endpoint": "http"},
    "triton.txt": {**_TRITON, "endpoint": "metrics"},
}
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class One:
    """A series that begins at `start` and grows by `step` from sample to sample."""

    name: str
    labels: tuple[tuple[str, str], ...]
    start: float
    step: float = 0.0

    @classmethod
    def of(cls, name: str, start: float, step: float = 0.0, **labels: str) -> One:
        return cls(name, tuple(sorted(labels.items())), start, step)

    def promtool(self, samples: int) -> dict[str, str]:
        labels = ",".join(f'{key}="{value}"' for key, value in self.labels)
        sign = "-" if self.step < 0 else "+"
        return {"series": f"{self.name}{{{labels}}}", "values": f"{self.start:g}{sign}{abs(self.step):g}x{samples}"}

    def matches(self, name: str, labels: dict[str, str]) -> bool:
        return self.name == name and labels.items() <= dict(self.labels).items()


def recorded() -> list[One]:
    """Give what the recorded scrape tells: counters go on as they had risen, gauges stay."""
    found = []
    for name, pod in PODS.items():
        found.append(One.of("up", 1, **pod))
        for family in text_string_to_metric_families((RECORDED / name).read_text()):
            grows = family.type in ("counter", "histogram")
            for sample in family.samples:
                step = sample.value if grows else 0.0
                found.append(One.of(sample.name, sample.value, step, **sample.labels, **pod))
    return found


def healthy(interval_s: float) -> list[One]:
    """Give every series that the rules ask for, as they are when all is well. `interval_s`: between samples."""
    agent = {**_TRITON, "endpoint": "health"}
    reader = {**_TRITON, "endpoint": "health-reader"}
    drift = {"pipeline": "p", "release": "1", "score": "s", "site": "A", "scanner": "M", **PODS["intake.txt"]}
    container = {"namespace": "wetread", "pod": "wetread-triton-0", "container": "triton"}
    hpa = {"namespace": "wetread", "horizontalpodautoscaler": "wetread-triton"}
    told = [one for one in recorded() if not one.name.startswith(("wetread_gateway_certificate", "wetread_agent"))]
    told = [one for one in told if not one.name.startswith(("wetread_gateway_drift", "wetread_reader"))]
    return [
        *told,
        One.of("wetread_gateway_certificate_not_after_seconds", 90 * DAY_S, role="http", **PODS["intake.txt"]),
        One.of("wetread_gateway_drift_psi", 0.04, **drift),
        One.of("wetread_gateway_drift_ks", 0.05, **drift),
        One.of("wetread_gateway_drift_readings", 900, **drift),
        One.of("up", 1, **agent),
        One.of("up", 1, **reader),
        One.of("wetread_agent_dead_stubs", 0, model="m", **agent),
        One.of("wetread_agent_heals_total", 1, model="m", **agent),
        One.of("wetread_agent_settled", 1, pipeline="p", **agent),
        One.of("wetread_reader_last_lease_seconds", 0, interval_s, **reader),
        One.of("wetread_reader_paused", 0, pipeline="p", **reader),
        One.of("container_memory_working_set_bytes", 2e9, **container),
        One.of("kube_pod_container_resource_limits", 4e9, resource="memory", unit="byte", **container),
        One.of("kube_horizontalpodautoscaler_status_current_replicas", 3, **hpa),
        One.of("kube_horizontalpodautoscaler_spec_max_replicas", 20, **hpa),
    ]


@dataclass(frozen=True, slots=True)
class Change:
    """What is not well: series `name` with these labels begin at `start` and grow by `step`; None: as they were."""

    name: str
    labels: dict[str, str]
    start: float | None = None
    step: float | None = None
    times: float = 1.0

    def on(self, series: list[One]) -> list[One]:
        hit = [one for one in series if one.matches(self.name, self.labels)]
        assert hit, f"no healthy series {self.name}{self.labels}"
        return [self._changed(one) if one in hit else one for one in series]

    def _changed(self, one: One) -> One:
        start = one.start if self.start is None else self.start
        step = one.step * self.times if self.step is None else self.step
        return replace(one, start=start, step=step)
