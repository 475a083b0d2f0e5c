"""The autoscaler's arithmetic, by hand from Kubernetes' documentation, and what it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wetread_bench.autoscale.hpa import Autoscaler
from wetread_bench.autoscale.manifest import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    BadManifest,
    Manifest,
    Metric,
    Policy,
    Rules,
    quantity,
)
from wetread_bench.autoscale.replicas import PodStatus, Readings, Sample

if TYPE_CHECKING:
    from pathlib import Path

CPU = Metric("ContainerResource", "cpu", "Utilization", 50, "triton")
QUEUE = Metric("Pods", "queue", "AverageValue", 10)
WORKS = Metric("External", "works", "AverageValue", 10)
AGE = Metric("External", "age", "Value", 2)
FREE = Rules(0, "Max", (Policy("Percent", 900, 15),))
FALLS = Rules(0, "Max", (Policy("Percent", 100, 15),))
NOW = 10_000.0


def pods(ready: int, pending: int = 0) -> list[PodStatus]:
    old = [PodStatus(name, False, True, 0.0, 60.0) for name in range(ready)]
    return old + [PodStatus(ready + name, True, False, NOW - 5, NOW - 5) for name in range(pending)]


def of_pods(name: str, *values: float) -> Readings:
    return Readings({name: {pod: Sample(value, NOW) for pod, value in enumerate(values)}}, {})


def decide(
    readings: Readings, *metrics: Metric, replicas: int, there: list[PodStatus] | None = None,
    up: Rules | None = FREE, down: Rules | None = FALLS,
) -> int:  # fmt: skip
    scaler = Autoscaler(Manifest(1, 100, metrics, up, down))
    return scaler.sync(NOW, replicas, there or pods(replicas), readings).replicas


@pytest.mark.parametrize(("share", "wanted"), [(1.0, 8), (0.25, 2), (0.55, 4), (0.56, 5), (0.45, 4), (0.44, 4)])
def test_replicas_follow_the_ratio_rounded_up_unless_it_is_within_a_tenth(share: float, wanted: int) -> None:
    assert decide(of_pods("cpu", *[share] * 4), CPU, replicas=4) == wanted


def test_percent_are_cut_before_they_are_compared() -> None:
    # 55.9 % is 55 % to the autoscaler, a ratio of 1.1: within the tolerance
    assert decide(of_pods("cpu", *[0.559] * 4), CPU, replicas=4) == 4


def test_each_direction_may_have_a_tolerance_of_its_own() -> None:
    keen = Rules(0, "Max", (Policy("Percent", 900, 15),), tolerance=0.0)
    assert decide(of_pods("cpu", *[0.54] * 10), CPU, replicas=10, up=keen) == 11
    assert decide(of_pods("cpu", *[0.46] * 10), CPU, replicas=10, up=keen) == 10
    patient = Rules(0, "Max", FALLS.policies, tolerance=0.2)
    assert decide(of_pods("cpu", *[0.42] * 10), CPU, replicas=10, down=patient) == 10
    assert decide(of_pods("cpu", *[0.38] * 10), CPU, replicas=10, down=patient) == 8


def test_of_several_metrics_the_largest_wish_counts() -> None:
    readings = Readings({"queue": {pod: Sample(5) for pod in range(4)}}, {"works": 75.0})
    assert decide(readings, QUEUE, WORKS, replicas=4) == 8
    assert decide(readings, QUEUE, replicas=4) == 2


def test_an_external_average_is_divided_by_the_target_alone() -> None:
    assert decide(Readings({}, {"works": 55.0}), WORKS, replicas=2) == 6
    assert decide(Readings({}, {"works": 43.0}), WORKS, replicas=4) == 4, "1.075 is within the tolerance"


def test_an_external_value_multiplies_the_pods_that_are_ready() -> None:
    assert decide(Readings({}, {"age": 6.0}), AGE, replicas=4) == 12
    assert decide(Readings({}, {"age": 6.0}), AGE, replicas=4, there=pods(2, pending=2)) == 6


def test_a_pending_pod_counts_as_idle_when_the_others_ask_for_more() -> None:
    # two at 100 % of 50 %: ratio 2; with two idle ones it is 1, which is no change: those four will do
    assert decide(of_pods("cpu", 1.0, 1.0), CPU, replicas=4, there=pods(2, pending=2)) == 4
    # with idle ones, two at 60 % would ask for fewer: a wish that turns is none
    assert decide(of_pods("cpu", 0.6, 0.6), CPU, replicas=4, there=pods(2, pending=2)) == 4
    # and it is left out when they ask for less
    assert decide(of_pods("cpu", 0.2, 0.2), CPU, replicas=3, there=pods(2, pending=1)) == 1


def test_a_pod_without_a_value_damps_a_change_and_never_turns_it() -> None:
    grows = of_pods("cpu", 0.9, 0.9, 0.9)  # 1.8; as if idle the fourth makes it 1.35
    assert decide(grows, CPU, replicas=4) == 6
    little = of_pods("cpu", 0.72, 0.72, 0.72)  # 1.44, and with an idle fourth 1.08: no change
    assert decide(little, CPU, replicas=4) == 4
    turns = of_pods("cpu", 0.6, 0.6, 0.6)  # 1.2, and 0.72 with two that are idle
    assert decide(turns, CPU, replicas=5) == 5
    shrinks = of_pods("cpu", 0.1, 0.1, 0.1)  # 0.2; as if all of its request were used: 32 % of 50 %
    assert decide(shrinks, CPU, replicas=4) == 3


def test_the_cpu_of_a_pod_that_has_just_become_ready_is_not_believed() -> None:
    young = [*pods(2), PodStatus(2, False, True, NOW - 80, NOW - 20)]
    sample = {0: Sample(0.5, NOW), 1: Sample(0.5, NOW), 2: Sample(1.0, NOW - 10, window_s=15)}
    assert decide(Readings({"cpu": sample}, {}), CPU, replicas=3, there=young) == 3
    believed = {**sample, 2: Sample(1.0, NOW, window_s=15)}
    assert decide(Readings({"cpu": believed}, {}), CPU, replicas=3, there=young) == 4


def test_a_metric_without_a_value_forbids_to_shrink_and_not_to_grow() -> None:
    assert decide(Readings({}, {"works": 10.0}), WORKS, AGE, replicas=4) == 4
    assert decide(Readings({}, {"works": 90.0}), WORKS, AGE, replicas=4) == 9
    assert decide(Readings({}, {}), WORKS, AGE, replicas=4) == 4


def test_shrinking_waits_for_the_highest_wish_of_its_window() -> None:
    scaler = Autoscaler(Manifest(1, 100, (WORKS,), FREE, Rules(300, "Max", (Policy("Percent", 100, 15),))))
    replicas, seen = 8, []
    for tick in range(25):
        works = 80.0 if tick == 0 else 20.0
        replicas = scaler.sync(15.0 * tick, replicas, pods(replicas), Readings({}, {"works": works})).replicas
        seen.append(replicas)
    assert seen[:20] == [8] * 20, "300 s"
    assert seen[20:] == [2] * 5


def test_growing_waits_for_the_lowest_wish_of_its_window() -> None:
    slow = Rules(60, "Max", (Policy("Percent", 900, 15),))
    scaler = Autoscaler(Manifest(1, 100, (WORKS,), slow, DEFAULT_DOWN))
    seen = [
        scaler.sync(15.0 * tick, 2, pods(2), Readings({}, {"works": works})).replicas
        for tick, works in enumerate((20.0, 90.0, 80.0, 70.0, 60.0, 60.0))
    ]
    assert seen == [2, 2, 2, 2, 6, 6]


def test_the_documentations_example_of_policies_to_shrink() -> None:
    # 80 replicas, 4 pods or 10 % a minute, the larger: 8, 8 (10 % of 72 rounded up), 7, 6, 6, 5, 4
    rules = Rules(0, "Max", (Policy("Pods", 4, 60), Policy("Percent", 10, 60)))
    scaler = Autoscaler(Manifest(1, 100, (WORKS,), FREE, rules))
    replicas, seen = 80, [80]
    for minute in range(7):
        replicas = scaler.sync(60.0 * minute, replicas, pods(replicas), Readings({}, {"works": 100.0})).replicas
        seen.append(replicas)
    assert seen == [80, 72, 64, 57, 51, 45, 40, 36]


@pytest.mark.parametrize(("select", "wanted"), [("Max", 20), ("Min", 14), ("Disabled", 10)])
def test_a_policy_is_selected(select: str, wanted: int) -> None:
    rules = Rules(0, select, (Policy("Pods", 4, 60), Policy("Percent", 100, 60)))  # type: ignore[arg-type]
    assert decide(Readings({}, {"works": 900.0}), WORKS, replicas=10, up=rules) == wanted


def test_what_was_added_within_a_policys_period_counts() -> None:
    scaler = Autoscaler(Manifest(1, 100, (WORKS,), Rules(0, "Max", (Policy("Pods", 4, 60),)), DEFAULT_DOWN))
    replicas, seen = 2, []
    for tick in range(6):
        replicas = scaler.sync(15.0 * tick, replicas, pods(replicas), Readings({}, {"works": 900.0})).replicas
        seen.append(replicas)
    assert seen == [6, 6, 6, 6, 10, 10]


def test_without_behaviour_it_doubles_at_most_or_takes_four() -> None:
    many = Readings({}, {"works": 900.0})
    assert decide(many, WORKS, replicas=1, up=None, down=None) == 4
    assert decide(many, WORKS, replicas=10, up=None, down=None) == 20


def test_bounds_hold_whatever_is_wished() -> None:
    scaler = Autoscaler(Manifest(2, 20, (WORKS,), FREE, DEFAULT_DOWN))
    assert scaler.sync(0.0, 10, pods(10), Readings({}, {"works": 9000.0})).replicas == 20
    assert scaler.sync(400.0, 25, pods(25), Readings({}, {"works": 10.0})).replicas == 20
    assert scaler.sync(800.0, 1, pods(1), Readings({}, {"works": 10.0})).replicas == 2


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), (30, 30.0), ("2k", 2000.0), ("1Ki", 1024.0), ("1.5", 1.5)])
def test_quantities_are_read(text: object, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


def test_what_a_manifest_does_not_say_has_kubernetes_defaults() -> None:
    spec = {"maxReplicas": 5, "metrics": [{"type": "External", "external": {
        "metric": {"name": "works"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]}  # fmt: skip
    assert Manifest.parse(spec) == Manifest(1, 5, (WORKS,), None, None)
    told = Manifest.parse({**spec, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 30, "tolerance": "50m"}}})
    assert told.up == Rules(30, "Max", DEFAULT_UP.policies, 0.05)
    assert told.down == DEFAULT_DOWN


@pytest.mark.parametrize(
    "text",
    [
        "kind: [",
        "kind: Deployment\n",
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec: {metrics: [{type: Object}]}\n",
    ],
)
def test_what_is_no_autoscaler_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hpa.yaml"
    file.write_text(text)
    with pytest.raises(BadManifest, match=r"hpa\.yaml"):
        Manifest.load(file)
