"""What is decided of one instance, before anything is written down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wetread_gateway.errors import BadInstance
from wetread_gateway.instance import Arrival
from wetread_gateway.state.tables import InstanceState
from wetread_gateway.triage.facts import Sighting, look
from wetread_gateway.triage.header import read_meta

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Row

    from wetread_gateway.config.settings import Rule
    from wetread_gateway.instance import InstanceFacts
    from wetread_gateway.spool.spool import Sorted, Spool

FOLDERS: dict[InstanceState, Sorted] = {
    InstanceState.SORTED: "studies",
    InstanceState.CORRECTED: "studies",
    InstanceState.IGNORED: "ignored",
    InstanceState.DUPLICATE: "ignored",
    InstanceState.UNMATCHED: "unmatched",
    InstanceState.QUARANTINED: "quarantine",
}
_SOP_CLASS, _SOP_INSTANCE = 0x00020002, 0x00020003


@dataclass(frozen=True, slots=True)
class Arrived:
    """An instance in `received`, and what was seen of it; `unreadable`: why nothing could be."""

    path: Path
    arrival: Arrival
    sighting: Sighting | None
    unreadable: str = ""
    sop_uid: str = ""
    sop_class: str = ""

    @property
    def name(self) -> str:
        """Its name in the spool."""
        return self.path.name

    @property
    def facts(self) -> InstanceFacts:
        """What it says of itself; only where it could be read."""
        assert self.sighting is not None
        return self.sighting.facts


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance goes and why. `corrects`: the row of the instance whose identity it corrects."""

    item: Arrived
    state: InstanceState
    reason: str = ""
    rule: Rule | None = None
    corrects: Row[Any] | None = None

    @property
    def study_uid(self) -> str:
        """Its study; empty where it could not be read."""
        return self.item.sighting.facts.study_instance_uid if self.item.sighting else ""


def arrived(spool: Spool, path: Path) -> Arrived:
    """Look at a file of `received`; whatever it holds, this gives an answer."""
    try:
        arrival = spool.arrival_of(path)
        sighting = look(path)
    except BadInstance as error:
        return _unreadable(spool, path, str(error))
    facts = sighting.facts
    return Arrived(path, arrival, sighting, sop_uid=facts.sop_instance_uid, sop_class=facts.sop_class_uid)


def _unreadable(spool: Spool, path: Path, reason: str) -> Arrived:
    """Keep what the door knew of it."""
    try:
        arrival = spool.arrival_of(path)
    except BadInstance:
        arrival = Arrival("dimse", "", "", "", "", path.stat().st_mtime, path.name.startswith("0-"))
    meta = read_meta(path)
    uid, sop_class = (
        meta.get(tag, b"").strip(b"\0 ").decode("ascii", "replace") for tag in (_SOP_INSTANCE, _SOP_CLASS)
    )
    return Arrived(path, arrival, None, reason, uid, sop_class)


def row_of(placement: Placement, spool: Spool, home: str = "") -> dict[str, object]:
    """Give the instance's row, every text fit for its column; `home`: whose spool it is."""
    item = placement.item
    facts = item.sighting.facts if item.sighting else None
    return {
        "home": home,
        "arrival": item.name,
        "path": spool.path_in(item.name, placement.study_uid, FOLDERS[placement.state]),
        "state": placement.state,
        "reason": placement.reason[:255],
        "sop_uid": fit(item.sop_uid, 64),
        "sop_class": fit(item.sop_class, 64),
        "transfer_syntax": fit(facts.transfer_syntax_uid if facts else "", 64),
        "study_uid": placement.study_uid,
        "series_uid": facts.series_instance_uid if facts else "",
        "patient_digest": facts.patient_digest if facts else "",
        "identity_digest": item.sighting.identity_digest if item.sighting else "",
        "modality": fit(facts.modality if facts else "", 16),
        "instance_number": _number(facts.instance_number if facts else None),
        "calling_ae": fit(item.arrival.calling_ae, 16),
        "called_ae": fit(item.arrival.called_ae, 16),
        "association": fit(item.arrival.association, 64),
        "door": item.arrival.door,
        "stat": item.arrival.stat,
        "rule": placement.rule.name if placement.rule else "",
        "pixel_digest": "",
        "received_at": item.arrival.received_at or time.time(),
    }


def fit(text: str, length: int) -> str:
    """Give `text` without control characters, which PostgreSQL takes or not, and no longer than its column."""
    return text[:length] if text.isprintable() else "".join(c for c in text if c.isprintable())[:length]


def _number(number: int | None) -> int | None:
    """Give what an IS may be (PS3.5, 6.2) and an INTEGER column takes, else nothing."""
    return number if number is not None and -(2**31) <= number < 2**31 else None
