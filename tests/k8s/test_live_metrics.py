"""The running stack's real metrics hold what the adapter's rules, the alerts and the dashboards ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from adapter import Rule, rules
from live_stack import NAMESPACE
from manifests import K8S, named, rendered
from rules import FOREIGN, OF_A_POD, dashboard_queries, metrics_of
from rules import rules as recording_rules

if TYPE_CHECKING:
    from live_stack import LiveStack

pytestmark = [pytest.mark.pacs, pytest.mark.triton]

CONFIG = yaml.safe_load((K8S / "components" / "autoscale" / "adapter-rules.yaml").read_text())["data"]["config.yaml"]
RULES = rules(CONFIG)
POD = "wetread-triton-0"
PODS = [POD, "wetread-triton-1"]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_the_rule_finds_its_series_in_a_scrape(live_stack: LiveStack, rule: Rule):
    """Under the labels by which the adapter ties it to a namespace, and to a pod."""
    found = live_stack.await_query(rule.series_query)
    assert found
    assert all(labels[label] for labels, _ in found for label in rule.labels.values())


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.kind == "Pods"])
def test_a_pods_metric_is_one_number_a_pod(live_stack: LiveStack, name: str):
    """Asked for two pods of which one is there, as while the other starts."""
    (answer,) = live_stack.await_query(RULES[name].for_pods(NAMESPACE, PODS))
    labels, value = answer
    assert labels == {"pod": POD}
    assert value >= 0


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.kind == "External"])
def test_an_external_metric_is_one_number(live_stack: LiveStack, name: str):
    (answer,) = live_stack.await_query(RULES[name].external(NAMESPACE))
    assert answer[0] == {}
    assert answer[1] >= 0


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_another_namespace_has_no_number(live_stack: LiveStack, rule: Rule):
    query = rule.external("elsewhere") if rule.kind == "External" else rule.for_pods("elsewhere", [POD])
    assert live_stack.query(query) == []


def test_the_numbers_move_with_the_work(live_stack: LiveStack):
    """Films that came in within the window count as works a second, and their steps have waited and computed."""
    live_stack.send(4)
    live_stack.await_all_delivered()
    rate = RULES["wetread_works_per_second"].external(NAMESPACE)
    assert live_stack.await_query(rate, lambda found: bool(found) and found[0][1] > 0)[0][1] > 0
    steps = f'sum(rate(nv_inference_count{{namespace="{NAMESPACE}",model=~"chest_xray_.+"}}[1m]))'
    assert live_stack.await_query(steps, lambda found: bool(found) and found[0][1] > 0)[0][1] > 0
    ratio = RULES["wetread_queue_over_compute"].for_pods(NAMESPACE, [POD])
    assert live_stack.await_query(ratio, lambda found: bool(found) and found[0][1] > 0)[0][1] > 0


def test_steps_are_counted_and_ensembles_are_not(live_stack: LiveStack):
    """An ensemble's queue and computing would count its steps twice."""
    rule = RULES["wetread_pending_requests"]
    inside = rule.for_pods(NAMESPACE, [POD]).replace("sum(", "count(", 1).replace("by (pod)", "by (pod, model)")
    models = {labels["model"] for labels, _ in live_stack.await_query(inside)}
    assert models >= {"chest_xray_preprocess", "chest_xray_classifier", "chest_xray_postprocess"}
    assert not models & {"chest_xray", "chest_ct", "brain_mr"}


def test_works_that_wait_are_those_waiting_and_leased(live_stack: LiveStack):
    inside = RULES["wetread_works_waiting"].external(NAMESPACE).replace("sum(", "count by (state) (", 1)
    assert {labels["state"] for labels, _ in live_stack.await_query(inside)} == {"waiting", "leased"}


def test_kedas_queries_give_what_the_adapter_gives(live_stack: LiveStack):
    """KEDA asks for a sum over the pods where the HPA asks for each."""
    scaled = named(rendered("with KEDA"), "ScaledObject", "wetread-triton")
    assert scaled is not None
    triggers = {each["name"]: each["metadata"]["query"] for each in scaled["spec"]["triggers"] if "name" in each}
    assert set(triggers) == set(RULES)
    for query in triggers.values():
        (answer,) = live_stack.await_query(query)
        assert answer[0] == {}
        assert answer[1] >= 0


def test_keda_and_the_hpa_wish_the_same():
    hpa = named(rendered("hospital"), "HorizontalPodAutoscaler", "wetread-triton")
    scaled = named(rendered("with KEDA"), "ScaledObject", "wetread-triton")
    assert hpa is not None
    assert scaled is not None
    targets = {}
    for metric in hpa["spec"]["metrics"]:
        if metric["type"] != "ContainerResource":
            content = metric[metric["type"].lower()]
            kind = content["target"]["type"]
            text = content["target"]["value" if kind == "Value" else "averageValue"]
            targets[content["metric"]["name"]] = (kind, _number(text))
    wished = {
        each["name"]: (each["metricType"], _number(each["metadata"]["threshold"]))
        for each in scaled["spec"]["triggers"]
        if "name" in each
    }
    assert wished == targets
    spec, of_keda = hpa["spec"], scaled["spec"]
    assert (of_keda["minReplicaCount"], of_keda["maxReplicaCount"]) == (spec["minReplicas"], spec["maxReplicas"])
    assert of_keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == spec["behavior"]


def _number(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def test_every_metric_that_a_rule_or_a_dashboard_names_is_told_by_the_running_stack(live_stack: LiveStack):
    asked = set().union(
        *(metrics_of(rule["expr"]) for rule in recording_rules()), *map(metrics_of, dashboard_queries())
    )
    recorded = {rule["record"] for rule in recording_rules() if "record" in rule}
    wanted = asked - recorded - FOREIGN - OF_A_POD
    told = {name for name in wanted if live_stack.await_query(f"count({name})", timeout_s=20.0)}
    assert wanted - told == set()


def test_prometheus_understands_every_query_and_records_every_objective(live_stack: LiveStack):
    for query in dashboard_queries():
        live_stack.query(query)
    for rule in recording_rules():
        if "record" in rule:
            assert live_stack.await_query(rule["record"]), rule["record"]


def test_a_stack_that_reads_films_has_only_the_test_certificate_and_the_drift_of_drawn_films_to_tell(live_stack):
    expected = {"WetreadCertificateEndsSoon", "WetreadCertificateEndsNow", "WetreadDrift", "WetreadDriftBegins"}
    live_stack.await_query("slo:wetread_errors:ratio_rate5m")
    firing = live_stack.prometheus.firing()
    # Latencies are of this machine, which may be busy.
    assert {labels["alertname"] for labels in firing if not labels.get("slo", "").endswith("latency")} <= expected


def test_latencies_count_every_work_from_its_receipt(live_stack: LiveStack):
    for family in ("study", "delivery"):
        assert live_stack.await_query(f"sum(wetread_gateway_{family}_seconds_count) >= 8")
    assert live_stack.await_query('sum(wetread_gateway_works_made_total{priority="stat"}) >= 2')
