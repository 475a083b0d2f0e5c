"""The figures that a release is listed with, and which limits a draft does not keep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wetread_release.gate.judge import Accuracy, FindingFigures, Judged
    from wetread_release.gate.limits import Limits
    from wetread_release.gate.measure import Cost

FIGURES = {
    "flips_percent": "films decided otherwise than by the reference, %",
    "auc": "area under the ROC curve",
    "auc_drop": "the reference's AUC less the draft's",
    "p50_ms": "one film through the pipeline, median, ms",
    "sensitivity_drop": "the reference's sensitivity less the draft's",
    "specificity_drop": "the reference's specificity less the draft's",
    "calibration_rise": "the draft's expected calibration error less the reference's",
    "sensitivity": "positive films called positive",
    "specificity": "negative films called negative",
    "calibration_error": "expected calibration error",
    "brier": "mean squared difference of probability and label",
    "mean_difference": "mean difference of probability to the reference",
    "largest_difference": "largest difference of probability to the reference",
    "films": "films read",
    "unread": "films that should have been read",
    "refused": "films that neither side reads",
    "p99_ms": "one film through the pipeline, 99th percentile, ms",
    "films_per_s": "of the pipeline, eight films under way",
    "batch_ms": "a full batch of the network alone, ms",
    "memory_mib": "of the models' processes, MiB",
    "latency_ratio": "p50 over the reference's",
    "rate_ratio": "films/s over the reference's",
    "network_speedup": "the reference's time for a full batch over the draft's",
    "memory_ratio": "memory over the reference's",
}
"""What each figure is. Of several findings the worst counts."""
_NAMED = 10
"""Films that a failure names; the report shows them all."""


def figures(judged: Judged, draft: Cost, reference: Cost | None) -> dict[str, float]:
    """Give the figures by name, those that a reader asks for first at the front; what is not known is left out.

    Of several findings the worst one counts.
    """
    flipped = {flip.film for flip in judged.flips}
    found: dict[str, float] = {}
    if judged.parity is not None:
        found["flips_percent"] = 100 * len(flipped) / judged.parity.films
    both = [each for each in judged.findings if each.reference is not None and each.difference is not None]
    found["auc"] = min((each.draft.auc.value for each in judged.findings), default=math.nan)
    found["auc_drop"] = max((-each.difference.difference.value for each in both if each.difference), default=math.nan)
    found["p50_ms"] = draft.p50_ms
    found |= _paired(both)
    found["sensitivity"] = min((each.draft.rates.sensitivity for each in judged.findings), default=math.nan)
    found["specificity"] = min((each.draft.rates.specificity for each in judged.findings), default=math.nan)
    found["calibration_error"] = max((each.draft.calibration.expected for each in judged.findings), default=math.nan)
    found["brier"] = max((each.draft.calibration.brier for each in judged.findings), default=math.nan)
    if judged.parity is not None:
        found["mean_difference"] = judged.parity.mean_difference
        found["largest_difference"] = judged.parity.largest_difference
    found |= {"films": judged.read, "unread": len(judged.unread), "refused": judged.refused}
    found |= _costs(draft, reference)
    return {name: float(value) + 0.0 for name, value in found.items() if math.isfinite(value)}


def failures(
    judged: Judged, found: Mapping[str, float], limits: Limits, engine: str, reference_engine: str | None
) -> tuple[str, ...]:
    """Name the limits that are not kept. `reference_engine`: None where there is no reference."""
    problems = [f"{film}: the probability is no number between 0 and 1" for film in judged.bad_numbers[:_NAMED]]
    if len(judged.unread) > limits.max_unread:
        named = "; ".join(f"{film}: {words}" for film, words in judged.unread[:_NAMED])
        problems.append(f"{len(judged.unread)} films were not read (limit {limits.max_unread:g}): {named}")
    if judged.read < limits.min_films:
        problems.append(f"{judged.read} films were read, {limits.min_films:g} are needed to judge")
    if found.get("flips_percent", 0.0) > limits.max_flips_percent:
        films = list(dict.fromkeys(flip.film for flip in judged.flips))
        more = f" and {len(films) - _NAMED} more" if len(films) > _NAMED else ""
        problems.append(
            f"{len(films)} films ({found['flips_percent']:.2f} %) flipped (limit {limits.max_flips_percent:g} %): "
            f"{', '.join(films[:_NAMED])}{more}"
        )
    if reference_engine is not None and judged.parity is None:
        problems.append(
            "nothing could be compared: draft and reference read no film both, or have no finding in common (then "
            "judge the draft alone, with --reference none)"
        )
    problems += _beyond(_checks(limits, same_engine=engine == reference_engine), found)
    if not judged.findings and not judged.bad_numbers:
        asked = [name for name in ("min_auc", "min_sensitivity", "min_specificity") if getattr(limits, name) > 0]
        problems += [f"{name} is asked for, but the films are not labelled with both kinds" for name in asked]
    return tuple(problems)


def _checks(limits: Limits, *, same_engine: bool) -> Iterator[tuple[str, str, float, Callable[[float, float], bool]]]:
    """Give (figure, what it is, limit, what keeps the limit)."""

    def at_most(value: float, limit: float) -> bool:
        return value <= limit

    def at_least(value: float, limit: float) -> bool:
        return value >= limit

    yield "mean_difference", "the mean difference of probability", limits.max_mean_difference, at_most
    yield "auc_drop", "the drop of the AUC", limits.max_auc_drop, at_most
    yield "sensitivity_drop", "the drop of sensitivity", limits.max_sensitivity_drop, at_most
    yield "specificity_drop", "the drop of specificity", limits.max_specificity_drop, at_most
    yield "calibration_rise", "the rise of the calibration error", limits.max_calibration_rise, at_most
    yield "auc", "the AUC", limits.min_auc, at_least
    yield "sensitivity", "the sensitivity", limits.min_sensitivity, at_least
    yield "specificity", "the specificity", limits.min_specificity, at_least
    if same_engine:  # another engine trades one cost for another: both are told, neither is judged
        yield "latency_ratio", "the latency over the reference's", limits.max_latency_ratio, at_most
        yield "memory_ratio", "the memory over the reference's", limits.max_memory_ratio, at_most


def _beyond(
    checks: Iterable[tuple[str, str, float, Callable[[float, float], bool]]], found: Mapping[str, float]
) -> list[str]:
    problems = []
    for name, words, limit, keeps in checks:
        # A rounding error of the binary fraction decides nothing.
        if name in found and not keeps(round(found[name], 9), limit):
            problems.append(f"{words} is {found[name]:.4f} (limit {limit:g})")
    return problems


def _paired(both: Iterable[FindingFigures]) -> dict[str, float]:
    drops: dict[str, list[float]] = {"sensitivity_drop": [], "specificity_drop": [], "calibration_rise": []}
    for each in both:
        draft, reference = each.draft, each.reference
        assert reference is not None
        drops["sensitivity_drop"].append(reference.rates.sensitivity - draft.rates.sensitivity)
        drops["specificity_drop"].append(reference.rates.specificity - draft.rates.specificity)
        drops["calibration_rise"].append(_rise(draft, reference))
    return {name: max(values) for name, values in drops.items() if values}


def _rise(draft: Accuracy, reference: Accuracy) -> float:
    return draft.calibration.expected - reference.calibration.expected


def _costs(draft: Cost, reference: Cost | None) -> dict[str, float]:
    found = {
        "p99_ms": draft.p99_ms,
        "films_per_s": draft.films_per_s,
        "batch_ms": draft.batch_ms,
        "memory_mib": draft.memory_mib,
    }
    if reference is not None:
        found["latency_ratio"] = draft.p50_ms / reference.p50_ms
        found["rate_ratio"] = draft.films_per_s / reference.films_per_s
        found["network_speedup"] = reference.batch_ms / draft.batch_ms
        if reference.memory_mib:
            found["memory_ratio"] = draft.memory_mib / reference.memory_mib
    return found
