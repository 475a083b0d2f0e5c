"""The shipped Prometheus rules and dashboards as the tests read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
MONITORING = CHECKOUT / "k8s" / "components" / "monitoring"
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_FAMILY = re.compile(r"^(?:wetread|slo:wetread|nv|kube|container)_?[a-z]")
# Of kube-state-metrics and the kubelet's cAdvisor: no cluster runs here.
FOREIGN = frozenset(
    {
        "container_memory_working_set_bytes",
        "kube_horizontalpodautoscaler_spec_max_replicas",
        "kube_horizontalpodautoscaler_status_current_replicas",
        "kube_pod_container_resource_limits",
    }
)

# Of a pod's agent, which the stack of these tests does not run, and of a pipeline that fails.
OF_A_POD = frozenset(
    {
        "wetread_agent_dead_stubs",
        "wetread_agent_heals_total",
        "wetread_agent_release",
        "wetread_agent_settled",
        "wetread_reader_paused",
    }
)


def groups() -> list[dict[str, Any]]:
    """Every rule group that ships."""
    found = []
    for name in ("slo.yaml", "alerts.yaml"):
        found += yaml.safe_load((MONITORING / name).read_text())["spec"]["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def metrics_of(promql: str) -> set[str]:
    """Names of the series that an expression asks for."""
    bare = re.sub(r'"[^"]*"', '""', promql)
    return {word for word in _WORD.findall(bare) if _FAMILY.match(word) or word == "up"}


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted((MONITORING / "dashboards").glob("*.json"))}


def dashboard_queries() -> list[str]:
    found = []
    for board in dashboards().values():
        found += [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return found
