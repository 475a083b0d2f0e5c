from __future__ import annotations

import json
import subprocess
import sys

import pytest
from rules import MONITORING, alerts, dashboard_queries, dashboards, groups

pytestmark = pytest.mark.slow
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


def test_no_query_of_a_dashboard_or_rule_names_a_label_that_tells_of_a_patient():
    text = json.dumps([dashboard_queries(), groups()]).lower()
    assert not [word for word in ("patient", "study_uid", "accession", "sop_uid") if f"{word}=" in text]
    assert alerts()
