"""What the gateway would do with a file, and why: `wetread gateway explain`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wetread_gateway import rules
from wetread_gateway.errors import BadInstance
from wetread_gateway.instance import Arrival
from wetread_gateway.spool import meta
from wetread_gateway.triage.facts import instance_facts
from wetread_gateway.triage.sop_classes import not_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_gateway.config.settings import Rule, Settings
    from wetread_gateway.instance import InstanceFacts


def explain(settings: Settings, file: Path, calling_ae: str = "", called_ae: str = "") -> tuple[str, ...]:
    """Say which rule fires for `file` and why, a line each; the file may be one of the spool or any other.

    `calling_ae`, `called_ae`: as if it were sent so; otherwise as it was, or as the first peer would send it.
    BadInstance, with the reason, for a file that is no DICOM instance.
    """
    facts = instance_facts(file)
    arrival = arrival_of(settings, file, calling_ae, called_ae)
    return (
        *_door(settings, arrival),
        *_facts(facts),
        *_outcome(settings, facts, arrival),
    )


def arrival_of(settings: Settings, file: Path, calling_ae: str, called_ae: str) -> Arrival:
    """Give how `file` came in, or would."""
    try:
        known = meta.decode(file)
    except BadInstance:  # not from the spool
        known = None
    first = settings.peer[0].ae_title if settings.peer else "ANY"
    calling = calling_ae or (known.calling_ae if known else first)
    called = called_ae or (known.called_ae if known else settings.dicom.ae_title)
    peer = next((peer for peer in settings.peer if peer.ae_title == calling), None)
    stat = called == settings.dicom.stat_ae_title or bool(peer and peer.stat)
    if known and not calling_ae and not called_ae:
        stat = known.stat
    return Arrival("dimse", calling, called, "", "", time.time(), stat)


def _door(settings: Settings, arrival: Arrival) -> Iterator[str]:
    yield f"sent by {arrival.calling_ae or '(nobody)'} to {arrival.called_ae}{', STAT' if arrival.stat else ''}"
    if not settings.dicom.any_peer and arrival.calling_ae not in {peer.ae_title for peer in settings.peer}:
        yield f"the DICOM door refuses it: no [[peer]] is called {arrival.calling_ae!r}, and any_peer is false"
    if arrival.called_ae not in (settings.dicom.ae_title, settings.dicom.stat_ae_title):
        ours = f"{settings.dicom.ae_title!r} and {settings.dicom.stat_ae_title!r}"
        yield f"the DICOM door refuses it: we are called {ours}"


def _facts(facts: InstanceFacts) -> Iterator[str]:
    names = ("modality", "body_part", "view", "study_description", "series_description")
    yield "it says " + ", ".join(f"{name} {getattr(facts, name)!r}" for name in names)


def _outcome(settings: Settings, facts: InstanceFacts, arrival: Arrival) -> Iterator[str]:
    if facts.ours:
        yield "it is a result of ours come back: answered with Success, never read"
        return
    if what := not_read(facts.sop_class_uid) or ("" if facts.has_pixels else "an object without an image"):
        yield f"it is {what}: answered with Success, never read"
        return
    decision = rules.match(settings, facts, arrival)
    yield from decision.reasons
    if decision.rule:
        yield from _plan(settings, decision.rule, facts, arrival)


def _plan(settings: Settings, rule: Rule, facts: InstanceFacts, arrival: Arrival) -> Iterator[str]:
    if not rule.pipeline:
        yield "the rule names no pipeline: it is kept and shown, not read"
        return
    priority = settings.priority_of(rule, stat=arrival.stat).name.lower()
    alone = facts.modality in settings.completeness.single_image_modalities
    when = "at once, by itself" if alone else "with its series, when that is whole"
    yield f"{rule.pipeline} reads it {when}, priority {priority}"
    yield f"results go to {', '.join(rule.destinations)}" if rule.destinations else "results go nowhere"
    options = [name for name in ("any_body_part", "unknown_age_is_inside", "report_refusals") if getattr(rule, name)]
    if options:
        yield f"options: {', '.join(options)}"
