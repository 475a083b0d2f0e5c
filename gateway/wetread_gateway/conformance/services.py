"""What the gateway speaks over the network: services, roles, associations, statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import UID
from pynetdicom.sop_class import _STORAGE_CLASSES

from wetread_gateway.config.settings import Completeness, Destination, Dicom, Http, Intake
from wetread_gateway.conformance.markdown import status, table
from wetread_gateway.delivery import statuses
from wetread_gateway.delivery.ask import STUDY_ROOT_FIND
from wetread_gateway.delivery.association import PLAIN
from wetread_gateway.delivery.commitment import PUSH_MODEL
from wetread_gateway.delivery.dicom_out import DOCUMENTS, ENCODED, IMAGES, PROPOSALS, SEGMENTATIONS
from wetread_gateway.delivery.request import OUR_MAX_PDU
from wetread_gateway.delivery.statuses import Remedy, Verdict
from wetread_gateway.dimse.negotiation import is_storage
from wetread_gateway.dimse.status import VERIFICATION as VERIFICATION_CLASS
from wetread_gateway.dimse.status import Status
from wetread_gateway.spool.meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from wetread_gateway.triage.sop_classes import not_read

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCEPTS = "Acceptor (`receiver`)"
_REQUESTS = "Requestor (`delivery`, `triage`)"

# The statuses that the C-STORE SCP, the C-ECHO SCP and the taker of N-EVENT-REPORTs give, and when.
GIVEN = {
    Status.SUCCESS: "The instance and the audit of it are durable: file and folder have been fsynced.",
    Status.PROCESSING_FAILURE: "A commitment report cannot be read, or could not be recorded.",
    Status.NO_SUCH_INSTANCE: "A commitment report for another instance than the well-known one.",
    Status.NO_SUCH_EVENT_TYPE: "A commitment report of an unknown event type.",
    Status.INVALID_INSTANCE: "The Affected SOP Instance UID is no UID.",
    Status.SOP_CLASS_NOT_SUPPORTED: "The Affected SOP Class is no storage class, or a report is of another class.",
    Status.UNRECOGNIZED_OPERATION: "A DIMSE operation that the gateway does not offer.",
    Status.RESOURCE_LIMITATION: "A commitment report that is too large.",
    Status.OUT_OF_RESOURCES: "The disk is at its watermark, full or failing. Nothing of the instance is kept.",
    Status.CLASS_DIFFERS: "The Affected SOP Class is not that of the presentation context.",
    Status.CANNOT_UNDERSTAND: "No dataset, or an Affected SOP Class UID that is none.",
}
_VERDICTS = {
    Verdict.STORED: "Success.",
    Verdict.WARNED: "Taken as stored, the warning noted in the timeline; then asked for as ever.",
    Verdict.AGAIN: "Tried again with backoff and jitter.",
    Verdict.UNREACHABLE: "Tried again; the destination's circuit breaker opens.",
    Verdict.REFUSED: "Never tried again: the dead letter.",
}
_REMEDIES = {
    Remedy.SEND: "The object is sent again.",
    Remedy.ASK: "Asked anew, later, with a new Transaction UID.",
    Remedy.ASK_OTHERWISE: "Asked for by C-FIND or QIDO-RS.",
    Remedy.GIVE_UP: "The dead letter.",
}


def overview() -> Iterator[str]:
    """Give the overview: services and roles in one table."""
    rows = [
        ("Verification", "C-ECHO", "no (only `wetread doctor`)", "yes"),
        (
            "Storage of instances received",
            "C-STORE",
            "no",
            f"yes, {len(storage_classes())} standard and all private classes",
        ),
        (
            "Storage of results",
            "C-STORE",
            f"yes, {len(DOCUMENTS) + len(IMAGES) + len(SEGMENTATIONS)} classes",
            "answered, never read",
        ),
        ("Storage Commitment Push Model", "N-ACTION, N-EVENT-REPORT", "yes, for its own results", "no: refused"),
        ("Query (Study Root)", "C-FIND", "yes, counts and its own results", "no"),
        ("DICOMweb Store (STOW-RS)", "`POST .../studies`", "yes, user agent", "yes, origin server"),
        ("DICOMweb Search (QIDO-RS)", "`GET .../instances`", "yes, for its own results", "no"),
        ("Media storage", "-", "no", "no"),
    ]
    yield table(("service", "messages", "as SCU or user agent", "as SCP or origin server"), rows)


def storage_classes() -> list[str]:
    """Give the storage SOP classes that the DICOM door knows by name, in the order of their names."""
    return sorted(
        (str(uid) for uid in _STORAGE_CLASSES.values() if is_storage(str(uid))), key=lambda uid: UID(uid).name
    )


def accepted_classes() -> Iterator[str]:
    """Give the table of SOP classes that are accepted, and what becomes of their instances."""
    yield (
        "Every storage SOP class is accepted, since many archives fail a whole study for one refused context: the "
        "classes of this table, whatever else begins with 1.2.840.10008.5.1.4.1.1, and private classes. What is not "
        "read is answered with Success all the same."
    )
    rows = [(UID(uid).name, f"`{uid}`", not_read(uid) or "an image, by the rules") for uid in storage_classes()]
    yield table(("SOP class", "UID", "it is"), rows)
    yield (
        "Transfer syntaxes: any that is proposed, the first of a context's; instances are kept as they were sent, and "
        "decoded only to be read. Verification is accepted with any transfer syntax too. Storage Commitment Push Model "
        "is accepted only from a peer that proposes itself as SCP, for its reports."
    )


def proposed_classes() -> Iterator[str]:
    """Give the table of presentation contexts that are proposed."""
    syntaxes: dict[str, list[str]] = {}
    for abstract_syntax, proposed in PROPOSALS:
        syntaxes.setdefault(abstract_syntax, []).extend(UID(uid).name for uid in proposed)
    rows = [
        (UID(uid).name, f"`{uid}`", ", ".join(dict.fromkeys(names)), _purpose(uid)) for uid, names in syntaxes.items()
    ]
    yield table(("SOP class", "UID", "transfer syntaxes", "for"), rows)
    yield (
        f"Captures are made in JPEG Baseline; a peer that takes none of {', '.join(UID(uid).name for uid in ENCODED)} "
        f"gets them uncompressed. Each plain transfer syntax ({', '.join(UID(uid).name for uid in PLAIN)}) has a "
        "context of its own. Extended negotiation, asynchronous operations and user identity are not proposed."
    )


def _purpose(uid: str) -> str:
    if uid == PUSH_MODEL:
        return "asking for commitment of results"
    return "asking what is there" if uid == STUDY_ROOT_FIND else "results"


def associations() -> Iterator[str]:
    """Give the association policies, with the defaults of the settings."""
    dicom, intake, destination = Dicom(), Intake(), Destination("")
    rows = [
        ("AE titles", f"`{dicom.ae_title}`; `{dicom.stat_ae_title}` for STAT", f"calling: `{dicom.ae_title}`"),
        ("port", f"{dicom.port}", "of the destination"),
        ("maximum PDU length offered", f"{dicom.max_pdu} bytes", f"{OUR_MAX_PDU} bytes"),
        (
            "simultaneous associations",
            f"{dicom.receivers} x ({dicom.max_associations} + {dicom.reserved_for_stat} for STAT)",
            f"{destination.concurrency} + 1 for STAT, a destination",
        ),
        ("asynchronous operations window", "1 (not negotiated)", "1 (not negotiated)"),
        ("time-out of the association request (ARTIM)", f"{dicom.artim_s:g} s", f"{destination.timeout_s:g} s"),
        ("time-out of an answer", f"idle {dicom.idle_s:g} s", f"{destination.timeout_s:g} s"),
        ("slowest peer", f"{dicom.slowest_bytes_per_s} bytes/s over {dicom.artim_s:g} s", "-"),
        ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`", f"`{IMPLEMENTATION_VERSION_NAME}`"),
    ]
    yield table(("policy (defaults)", _ACCEPTS, _REQUESTS), rows)
    yield (
        "An association is accepted when it calls one of our AE titles, the calling AE title stands in the table of "
        "peers (or any may call) and, where the peer has an address there, it comes from it. It is rejected otherwise, "
        f"and as a temporary congestion when all are taken or routine work waits longer than "
        f"{intake.overload_age_s:g} s; STAT is then still accepted. TCP_NODELAY is set on every connection."
    )
    yield "Reasons of a rejection that the gateway understands as a requestor:"
    rejections = sorted(statuses.REJECTIONS.items())
    yield table(("source", "reason", "meaning"), [(source, reason, words) for (source, reason), words in rejections])


def status_tables() -> Iterator[str]:
    """Give the status tables of all services."""
    yield "### As C-STORE, C-ECHO and commitment-report SCP"
    yield table(("status", "when"), [(status(value), words) for value, words in GIVEN.items()])
    yield "### As C-STORE SCU"
    rows = [
        (_range(first, last), meaning.text, _VERDICTS[meaning.verdict]) for first, last, meaning in statuses.C_STORE
    ]
    rows.append(("any other", statuses.UNKNOWN.text, _VERDICTS[statuses.UNKNOWN.verdict]))
    yield table(("status", "meaning", "the gateway does"), rows)
    yield "The first row that holds a status counts. Aborts and time-outs are tried again."
    yield "### As STOW-RS user agent"
    rows = [
        (str(first) if first == last else f"{first}-{last}", meaning.text, _VERDICTS[meaning.verdict])
        for first, last, meaning in statuses.STOW
    ]
    yield table(("HTTP status", "meaning", "the gateway does"), rows)
    yield "### As STOW-RS origin server"
    answers = [
        ("200", "All instances are stored."),
        ("202", "Some are stored, others have failed, each with its Failure Reason."),
        ("409", "None is stored; each has its Failure Reason."),
        ("400, 413, 415", "The request is broken, too large, or of another media type."),
        ("401", "No valid bearer token, where tokens are asked for."),
        ("408", "The body came too slowly."),
        ("429", "Overload; Retry-After says when to try again. STAT is still taken."),
        ("507", "The disk is at its watermark or full."),
    ]
    yield table(("HTTP status", "when"), answers)
    yield f"Bodies may have {Http().max_body_bytes} bytes (default)."


def commitment() -> Iterator[str]:
    """Give what is done about storage commitment."""
    yield (
        "Asked for every object of ours, where a destination is so configured: N-ACTION on the association of the "
        f"C-STOREs or a new one. The report is taken on the same association or on a new one to our listening port, "
        f"for {Destination('').commitment_wait_s:g} s; then it is asked for anew with a new Transaction UID. A report "
        "for a transaction that is unknown or over changes nothing. Where the peer refuses the service, C-FIND is used."
    )
    rows = [
        (status(reason), words, _REMEDIES[remedy]) for reason, (remedy, words) in statuses.COMMITMENT_FAILURES.items()
    ]
    remedy, words = statuses.UNKNOWN_FAILURE
    rows.append(("any other", words, _REMEDIES[remedy]))
    yield table(("Failure Reason", "meaning", "the gateway does"), rows)
    refused = ", ".join(status(value) for value in sorted(statuses.COMMITMENT_NOT_OFFERED))
    yield f"N-ACTION statuses that mean that the service is not offered: {refused}. Any other failure is tried again."
    yield "Commitment asked *of* the gateway is refused at negotiation: it is no archive."


def queries() -> Iterator[str]:
    """Give the queries that are made."""
    completeness = Completeness()
    rows = [
        (
            "SERIES",
            "Study Instance UID, Series Instance UID",
            "Number of Series Related Instances",
            "is a series whole?",
        ),
        ("IMAGE", "Study, Series and SOP Instance UID", "-", "does a destination hold a result?"),
    ]
    yield table(("level", "matching keys", "return keys", "for"), rows)
    yield (
        f"A series is read when the expected count has come and nothing for {completeness.quiet_confirmed_s:g} s, or, "
        "without a count, when no association of its sender is open and nothing has come for "
        f"{completeness.quiet_s:g} s; the report then says that completeness is not confirmed. Instances of "
        f"{', '.join(completeness.single_image_modalities)} are read one by one. Verification ({VERIFICATION_CLASS}) "
        "is sent by `wetread doctor` alone."
    )


def _range(first: int, last: int) -> str:
    return status(first) if first == last else f"{status(first)}-{status(last)}"
