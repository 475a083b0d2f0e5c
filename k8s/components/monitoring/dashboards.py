"""Writes the Grafana dashboards; their queries are held against a live scrape by tests/k8s/test_dashboards.py."""

from __future__ import annotations

import json
from pathlib import Path

from boards_overview import OVERVIEW
from boards_results import DELIVERY, DRIFT
from boards_serving import SERVING

FOLDER = Path(__file__).with_name("dashboards")
BOARDS = {
    "wetread-overview": ("Wetread: overview", OVERVIEW),
    "wetread-serving": ("Wetread: pipelines and Triton", SERVING),
    "wetread-delivery": ("Wetread: delivery", DELIVERY),
    "wetread-drift": ("Wetread: drift", DRIFT),
}


def board(uid: str) -> dict[str, object]:
    """Give one dashboard's model."""
    title, panels = BOARDS[uid]
    return {
        "uid": uid,
        "title": title,
        "tags": ["wetread"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}]},
        "panels": [panel.model(number) for number, panel in enumerate(panels)],
    }


def texts() -> dict[str, str]:
    """Give the files' content by name."""
    return {f"{uid}.json": json.dumps(board(uid), indent=1) + "\n" for uid in BOARDS}


if __name__ == "__main__":
    for name, content in texts().items():
        (FOLDER / name).write_text(content)
