from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from rules import FOREIGN, MONITORING, OF_A_POD, alerts, dashboard_queries, dashboards, groups, metrics_of, rules

if TYPE_CHECKING:
    from live_stack import LiveStack

_GENERATED = "import json, dashboards; print(json.dumps(dashboards.texts()))"


def test_the_committed_dashboards_are_what_their_generator_writes():
    command = [sys.executable, "-c", _GENERATED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=MONITORING)
    committed = {path.name: path.read_text() for path in (MONITORING / "dashboards").glob("*.json")}
    assert json.loads(done.stdout) == committed, "run python k8s/components/monitoring/dashboards.py"


def test_dashboards_have_names_of_their_own_and_panels_that_do_not_overlap():
    boards = dashboards()
    assert len({board["uid"] for board in boards.values()}) == len(boards)
    for name, board in boards.items():
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places), name
        assert all(panel["title"] and panel["description"] for panel in board["panels"]), name


def test_the_component_names_every_dashboard():
    text = (MONITORING / "kustomization.yaml").read_text()
    assert all(f"dashboards/{name}" in text for name in dashboards())


@pytest.mark.pacs
@pytest.mark.triton
def test_every_metric_that_a_rule_or_a_dashboard_names_is_told_by_the_running_stack(live_stack: LiveStack):
    asked = set().union(*(metrics_of(rule["expr"]) for rule in rules()), *map(metrics_of, dashboard_queries()))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    wanted = asked - recorded - FOREIGN - OF_A_POD
    told = {name for name in wanted if live_stack.await_query(f"count({name})", timeout_s=2.0)}
    assert wanted - told == set()


@pytest.mark.pacs
@pytest.mark.triton
def test_prometheus_understands_every_query_and_records_every_objective(live_stack: LiveStack):
    for query in dashboard_queries():
        live_stack.query(query)
    for rule in rules():
        if "record" in rule:
            assert live_stack.await_query(rule["record"]), rule["record"]


@pytest.mark.pacs
@pytest.mark.triton
def test_a_stack_that_reads_films_has_only_the_test_certificate_and_the_drift_of_drawn_films_to_tell(live_stack):
    expected = {"WetreadCertificateEndsSoon", "WetreadCertificateEndsNow", "WetreadDrift", "WetreadDriftBegins"}
    live_stack.await_query("slo:wetread_errors:ratio_rate5m")
    assert live_stack.prometheus.firing() <= expected


@pytest.mark.pacs
@pytest.mark.triton
def test_latencies_count_every_work_from_its_receipt(live_stack: LiveStack):
    for family in ("study", "delivery"):
        rows = live_stack.query(f"wetread_gateway_{family}_seconds_count")
        assert sum(value for _, value in rows) >= 8
    rows = live_stack.query('wetread_gateway_works_made_total{priority="stat"}')
    assert sum(value for _, value in rows) >= 2


def test_no_query_of_a_dashboard_or_rule_names_a_label_that_tells_of_a_patient():
    text = json.dumps([dashboard_queries(), groups()]).lower()
    assert not [word for word in ("patient", "study_uid", "accession", "sop_uid") if f"{word}=" in text]
    assert alerts()
