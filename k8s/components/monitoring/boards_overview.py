"""What an operator sees first."""

from __future__ import annotations

from panels import G, Panel, quantile, rate

OVERVIEW = (
    Panel(
        "What fires",
        "Every alert of Wetread.",
        "short",
        (
            (
                "{{alertname}} {{severity}}",
                'sum by (alertname, severity) (ALERTS{alertname=~"Wetread.*", alertstate="firing"})',
            ),
        ),
    ),
    Panel(
        "Share of bad events in an hour",
        "Against the budget of each objective.",
        "percentunit",
        (("{{slo}}", "slo:wetread_errors:ratio_rate1h"), ("budget of {{slo}}", "slo:wetread_budget:ratio")),
    ),
    Panel(
        "Works that come",
        "By pipeline and priority.",
        "reqps",
        (("{{pipeline}} {{priority}}", rate(f"{G}_works_made_total", "pipeline, priority")),),
    ),
    Panel(
        "From the last image to the reading",
        "By priority.",
        "s",
        (
            ("p50 {{priority}}", quantile(0.5, f"{G}_study_seconds", "priority")),
            ("p99 {{priority}}", quantile(0.99, f"{G}_study_seconds", "priority")),
        ),
        2.0,
    ),
    Panel(
        "Oldest that waits",
        "The doors refuse routine work at 30 s.",
        "s",
        (("routine", f"max({G}_oldest_waiting_seconds)"), ("STAT", f"max({G}_oldest_stat_seconds)")),
        30.0,
    ),
    Panel("Works by state", "Of all intakes.", "short", (("{{state}}", f"sum by (state) ({G}_queue_depth)"),)),
    Panel(
        "Refused",
        "By door and reason.",
        "reqps",
        (("{{door}} {{reason}}", rate(f"{G}_refused_total", "door, reason")),),
    ),
    Panel(
        "To be looked at",
        "Dead letter, quarantine, what no rule wants.",
        "short",
        (
            ("dead {{kind}}", f"sum by (kind) ({G}_dead_letters)"),
            ("quarantined", f"sum({G}_quarantined)"),
            ("unmatched", f"sum({G}_unmatched)"),
        ),
    ),
    Panel(
        "Alerts of the gateway",
        "By kind, in an hour.",
        "short",
        (("{{kind}}", f"sum by (kind) (increase({G}_alerts_total[1h])) > 0"),),
    ),
    Panel(
        "Free on the spools' disks",
        "In times of the watermark; at 1 the doors close.",
        "short",
        (("{{pod}}", f"{G}_spool_bytes_free / {G}_spool_bytes_watermark"),),
        1.0,
    ),
    Panel(
        "Spools' disks in use",
        "Of all that they have.",
        "percentunit",
        (("{{pod}}", f"1 - {G}_spool_bytes_free / {G}_spool_bytes_total"),),
    ),
    Panel(
        "Memory of the intakes",
        "Of their limit.",
        "percentunit",
        (("{{pod}}", f"{G}_memory_bytes / {G}_memory_limit_bytes"),),
        0.85,
    ),
    Panel(
        "Certificates",
        "Days until they end.",
        "d",
        (("{{role}}", f"(min by (role) ({G}_certificate_not_after_seconds) - time()) / 86400"),),
        3.0,
    ),
    Panel(
        "Pods",
        "That answer, and what the autoscaler wants.",
        "short",
        (
            ("{{job}} {{endpoint}}", 'sum by (job, endpoint) (up{job=~"wetread-.*"})'),
            ("at most", 'max(kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler=~"wetread-.*"})'),
            ("now", 'max(kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler=~"wetread-.*"})'),
        ),
    ),
)
