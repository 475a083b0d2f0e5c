"""Panels of Grafana, and the PromQL that comes up again and again."""

from __future__ import annotations

from dataclasses import dataclass

_WIDTH, _HEIGHT = 12, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}
G = "wetread_gateway"


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. `queries`: legend and PromQL. `limit`: drawn as a line."""

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    limit: float | None = None

    def model(self, number: int) -> dict[str, object]:
        """Give what Grafana loads; panels stand two in a row."""
        steps: list[dict[str, object]] = [{"color": "green", "value": None}]
        if self.limit is not None:
            steps.append({"color": "red", "value": self.limit})
        custom = {"thresholdsStyle": {"mode": "off" if self.limit is None else "line"}, "fillOpacity": 10}
        at = {"x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
        return {
            "id": number + 1,
            "type": "timeseries",
            "title": self.title,
            "description": self.text,
            "datasource": _SOURCE,
            "gridPos": at,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "custom": custom,
                    "thresholds": {"mode": "absolute", "steps": steps},
                },
                "overrides": [],
            },
            "targets": [
                {"refId": chr(65 + at), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
                for at, (legend, query) in enumerate(self.queries)
            ],
        }


def rate(metric: str, by: str = "", matching: str = "") -> str:
    """Give a counter's rate over five minutes."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{matching}}}[5m]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Give a histogram's quantile over five minutes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))"


def per_request(kind: str) -> str:
    """Give milliseconds of a request, by model."""
    time = rate(f"nv_inference_{kind}_duration_us", "model")
    return f"{time} / 1000 / {rate('nv_inference_request_success', 'model')}"


def per_pod(metric: str) -> str:
    """Give a counter's rate by pod."""
    return rate(metric, "pod")
