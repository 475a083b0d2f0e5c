"""The tables of the state store, and the states that their rows go through.

Nothing here names a patient: identities are digests, and what the reports need is read from the spool's files.
The spool is the truth: `wetread gateway reindex` builds these tables anew from it.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy import UniqueConstraint as Unique

METADATA = MetaData()
HOME = 48  # characters of an intake's name


def _home() -> Column[str]:
    """Make a column that names an intake; empty where there is only one."""
    return Column("home", String(HOME), nullable=False, default="", server_default="")


class InstanceState(StrEnum):
    """What became of an instance that got Success."""

    SORTED = "sorted"  # it belongs to work, waiting or done
    IGNORED = "ignored"  # nothing to read: SR, KO, PR, SEG, PDF, or our own result come back
    DUPLICATE = "duplicate"  # equal pixels and identity as one already here
    UNMATCHED = "unmatched"  # no rule wants it; kept and shown
    CORRECTED = "corrected"  # the same pixels came again under another identity, which counts now
    QUARANTINED = "quarantined"  # other pixels under a known UID, an identity that was corrected, or not readable
    PURGED = "purged"  # it was sorted, and its file has left the spool; the others keep their state, with no path


class WorkKind(StrEnum):
    """What is to be done."""

    READ = "read"  # lease, read, report
    REUSE = "reuse"  # a correction: the predecessor's reading under a new identity
    WITHDRAW = "withdraw"  # a withdrawal of the predecessor, and a Key Object Selection


class WorkState(StrEnum):
    """waiting -> leased -> read -> reported -> finished; REUSE and WITHDRAW skip `leased`."""

    WAITING = "waiting"
    LEASED = "leased"
    READ = "read"  # its reading (or refusal) is durable; a report is to be built
    REPORTED = "reported"  # its objects are durable; deliveries are under way
    FINISHED = "finished"  # all deliveries done, or nothing to deliver
    SUPERSEDED = "superseded"  # never read: a correction or a fuller series took its place
    DEAD = "dead"  # the dead letter


class DeliveryState(StrEnum):
    """waiting -> stored -> delivered."""

    WAITING = "waiting"
    STORED = "stored"  # the peer's Success for every object; now it is asked whether it holds them
    DELIVERED = "delivered"
    DEAD = "dead"


STUDIES = Table(
    "studies",
    METADATA,
    Column("study_uid", String(64), primary_key=True),
    Column("patient_digest", String(64), nullable=False),  # of its first instance
    Column("arm", String(32), nullable=False),  # always the stable one: STUDY_ARMS tells them apart
    Column("received_at", Float, nullable=False),
)

STUDY_ARMS = Table(  # which arm of a pipeline's rollout reads a study; written once, where rollouts are kept
    "study_arms",
    METADATA,
    Column("study_uid", String(64), primary_key=True),
    Column("pipeline", String(64), primary_key=True),
    Column("arm", String(32), nullable=False),
    Column("candidate", Integer, nullable=False),  # the release that the candidate arm was then; 0: the stable arm
    Column("fixed_at", Float, nullable=False),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("id", Integer, primary_key=True),
    _home(),  # whose spool holds the file
    Column("arrival", String(80), nullable=False),  # the file's name in `received`: sorted only once
    Column("path", String(255), nullable=False),  # in its home's spool, relative to it
    Column("state", String(16), nullable=False),
    Column("reason", String(255), nullable=False, default=""),
    Column("sop_uid", String(64), nullable=False, index=True),
    Column("sop_class", String(64), nullable=False),
    Column("transfer_syntax", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("series_uid", String(64), nullable=False),
    Column("patient_digest", String(64), nullable=False),
    Column("identity_digest", String(64), nullable=False, default=""),  # of all that names patient and study
    Column("modality", String(16), nullable=False),
    Column("instance_number", Integer),
    Column("calling_ae", String(16), nullable=False),
    Column("called_ae", String(16), nullable=False),
    Column("association", String(64), nullable=False),
    Column("door", String(8), nullable=False),
    Column("stat", Boolean, nullable=False),
    Column("rule", String(64), nullable=False, default=""),
    Column("pixel_digest", String(64), nullable=False, default=""),  # SHA-256 of the decoded samples, set at purging
    Column("received_at", Float, nullable=False),
    Unique("home", "arrival"),
    Index("instances_by_arrival", "arrival"),
)

SERIES = Table(  # series of several images that wait to be whole
    "series",
    METADATA,
    Column("series_uid", String(64), primary_key=True),
    Column("patient_digest", String(64), primary_key=True),
    _home(),  # where its last image came: that one judges whether it is whole
    Column("study_uid", String(64), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("expected", Integer),
    Column("expected_from", String(16), nullable=False, default=""),  # "sender", "c-find"
    Column("asked_at", Float),
    Column("last_at", Float, nullable=False),
    Column("is_open", Boolean, nullable=False),
)

WORKS = Table(
    "works",
    METADATA,
    Column("id", Integer, primary_key=True),
    _home(),  # of its first source: that one reports, delivers and purges
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("patient_digest", String(64), nullable=False),
    Column("sources", JSON, nullable=False),  # ids of `instances`, in order
    Column("sources_digest", String(64), nullable=False),  # SHA-256 over the sorted SOP Instance UIDs
    Column("number", Integer, nullable=False),  # of the reading of these sources; a successor has a higher one
    Column("predecessor", Integer, ForeignKey("works.id")),
    Column("pipeline", String(64), nullable=False),
    Column("arm", String(32), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("destinations", JSON, nullable=False),  # names, of the rule as it was when the work was made
    Column("options", JSON, nullable=False),  # any_body_part, unknown_age_is_inside, report_refusals, candidate
    Column("expected", Integer),  # images expected of the series; NULL: not told
    Column("completeness", String(16), nullable=False),  # "confirmed", "unconfirmed", "single"
    Column("not_before", Float, nullable=False, default=0.0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("report_attempts", Integer, nullable=False, default=0),
    Column("alone", Boolean, nullable=False, default=False),
    Column("lease_owner", String(64), nullable=False, default=""),
    Column("lease_token", Integer, nullable=False, default=0),  # fences: it grows with every lease
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("reason", String(1024), nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Unique("sources_digest", "number", "kind"),
    Index("works_by_state", "state", "priority", "id"),  # the order in which they are leased
)

READINGS = Table(  # written once, before any object is built
    "readings",
    METADATA,
    Column("work_id", Integer, ForeignKey("works.id"), primary_key=True),
    Column("document", JSON, nullable=False),  # a StoredReading without its heatmap and segmentation
    Column("heatmap", LargeBinary),  # zlib over uint8 [C, h, w]
    Column("read_at", Float, nullable=False),
)

SEGMENTATIONS = Table(  # what a series' reading has beside its document; written with it
    "segmentations",
    METADATA,
    Column("work_id", Integer, ForeignKey("works.id"), primary_key=True),
    Column("document", JSON, nullable=False),  # a StoredSegmentation without its labels
    Column("labels", LargeBinary, nullable=False),  # zlib over uint8 [slices, rows, columns]
)

SHADOW_READINGS = Table(  # what a candidate says of works that the stable arm has read; never delivered
    "shadow_readings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("work_id", Integer, ForeignKey("works.id"), nullable=False),
    Column("pipeline", String(64), nullable=False, index=True),
    Column("stable_release", Integer, nullable=False),
    Column("release", Integer, nullable=False),  # the candidate's
    Column("flips", Integer, nullable=False),  # findings decided otherwise; one refusal against a reading is one
    Column("findings", Integer, nullable=False),  # compared with each other
    Column("difference", Float),  # mean absolute difference of their probabilities
    Column("largest", Float),
    Column("document", JSON, nullable=False),  # a StoredReading without a heatmap
    Column("read_at", Float, nullable=False),
    Unique("work_id", "release"),
)

OBJECTS = Table(
    "objects",
    METADATA,
    Column("sop_uid", String(64), primary_key=True),
    _home(),  # whose spool holds the file
    Column("work_id", Integer, ForeignKey("works.id"), nullable=False, index=True),
    Column("kind", String(24), nullable=False),  # an ObjectKind
    Column("sop_class", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("path", String(255), nullable=False),  # in the spool, relative to it
    Column("created_at", Float, nullable=False),
)

DELIVERIES = Table(  # all objects of one work to one destination
    "deliveries",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("work_id", Integer, ForeignKey("works.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("objects", JSON, nullable=False),  # SOP Instance UIDs, in the order of sending
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("transaction_uid", String(64), nullable=False, default=""),
    Column("asked_at", Float),
    Column("confirmed_by", String(16), nullable=False, default=""),  # "commitment", "find", "qido", "status"
    Column("reason", String(1024), nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("stored_at", Float),
    Column("delivered_at", Float),
    Unique("work_id", "destination"),
    Index("deliveries_by_state", "state", "destination", "priority", "id"),  # the order in which they are taken
)

TRANSACTIONS = Table(  # commitment requests of ours without a report yet: what a report must name to be believed
    "transactions",
    METADATA,
    Column("transaction_uid", String(64), primary_key=True),
    _home(),  # who asked, and takes the report wherever it comes
    Column("destination", String(64), nullable=False),
    Column("asked_at", Float, nullable=False),
)

COMMITMENTS = Table(  # reports that came to our door, for transactions of ours
    "commitments",
    METADATA,
    Column("transaction_uid", String(64), primary_key=True),
    Column("committed", JSON, nullable=False),  # SOP Instance UIDs
    Column("failed", JSON, nullable=False),  # [[SOP Instance UID, Failure Reason], ...]
    Column("reported_at", Float, nullable=False),
)

HOMES = Table(  # the intakes that share this store, as each has last said of itself; empty where there is only one
    "homes",
    METADATA,
    Column("name", String(HOME), primary_key=True),
    Column("seen_at", Float, nullable=False),
    Column("sorted_at", Float, nullable=False),  # all that had come by then is sorted
    Column("callers", JSON, nullable=False),  # AE titles that had an association open then
    Column("unsorted", Integer, nullable=False),  # files that wait in `received`
)

EVENTS = Table(  # the timeline of every study
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("stage", String(16), nullable=False),  # received, rule, complete, read, report, deliver, alert
    Column("message", String(1024), nullable=False),
    Column("detail", JSON, nullable=False),
)
