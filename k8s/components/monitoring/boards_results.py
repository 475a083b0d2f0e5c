"""Delivery, and drift."""

from __future__ import annotations

from panels import G, Panel, quantile, rate

DELIVERY = (
    Panel(
        "From the last image to the PACS's confirmation",
        "By priority.",
        "s",
        (
            ("p50 {{priority}}", quantile(0.5, f"{G}_delivery_seconds", "priority")),
            ("p95 {{priority}}", quantile(0.95, f"{G}_delivery_seconds", "priority")),
        ),
    ),
    Panel(
        "Deliveries by state",
        "By destination.",
        "short",
        (("{{destination}} {{state}}", f'sum by (destination, state) ({G}_deliveries{{state!="delivered"}})'),),
    ),
    Panel(
        "Delivered",
        "By destination.",
        "short",
        (("{{destination}}", f'sum by (destination) ({G}_deliveries{{state="delivered"}})'),),
    ),
    Panel(
        "Oldest by stage",
        "That waits for a stage.",
        "s",
        (("{{stage}}", f"max by (stage) ({G}_queue_age_seconds)"),),
        900.0,
    ),
    Panel(
        "Results sent and confirmed",
        "By outcome.",
        "reqps",
        (("{{stage}} {{outcome}}", rate(f"{G}_items_total", "stage, outcome", 'stage=~"deliver|confirm|report"')),),
    ),
    Panel(
        "Time to send",
        "The 95th percentile of one delivery.",
        "s",
        (("deliver", quantile(0.95, f"{G}_stage_seconds", "stage")),),
    ),
)
DRIFT = (
    Panel(
        "PSI of the probabilities",
        "Against the release's reference: above 0.1 look, above 0.25 act.",
        "short",
        (
            (
                "{{score}} {{site}} {{scanner}} r{{release}}",
                f'max by (pipeline, release, score, site, scanner) ({G}_drift_psi{{score!="novelty"}})',
            ),
        ),
        0.25,
    ),
    Panel(
        "PSI of NOVELTY",
        "A scanner that is unlike those of training shows here first.",
        "short",
        (
            (
                "{{site}} {{scanner}} r{{release}}",
                f'max by (pipeline, release, site, scanner) ({G}_drift_psi{{score="novelty"}})',
            ),
        ),
        0.25,
    ),
    Panel(
        "Kolmogorov-Smirnov distance",
        "The largest gap between both distribution functions.",
        "short",
        (
            (
                "{{score}} {{site}} {{scanner}} r{{release}}",
                f"max by (pipeline, release, score, site, scanner) ({G}_drift_ks)",
            ),
        ),
    ),
    Panel(
        "Readings in the window",
        "Where nothing is shown there are too few.",
        "short",
        (
            (
                "{{score}} {{site}} {{scanner}} r{{release}}",
                f"max by (pipeline, release, score, site, scanner) ({G}_drift_readings)",
            ),
        ),
    ),
)
