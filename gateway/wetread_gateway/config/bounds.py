"""What a value may be, beyond its type."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """The smallest and the largest value that make sense."""

    least: float
    most: float

    def complaint(self, value: float) -> str | None:
        """Say what is wrong with `value`, if anything."""
        if math.isfinite(value) and self.least <= value <= self.most:
            return None
        return f"{value} is not between {self.least:g} and {self.most:g}"


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must look like, and how to say that."""

    pattern: re.Pattern[str]
    says: str

    def complaint(self, value: str) -> str | None:
        """Say what is wrong with `value`, if anything."""
        return None if self.pattern.fullmatch(value) else f"{value!r} is not {self.says}"


@dataclass(frozen=True, slots=True)
class Filled:
    """At least one item."""

    def complaint(self, value: tuple[str, ...]) -> str | None:
        """Say what is wrong with `value`, if anything."""
        return None if value else "it asks for nothing, and a key left out takes anything"


PORT = Range(1, 65535)
PORT_OR_NONE = Range(0, 65535)
# PS3.5, 6.2: at most 16 characters of the default repertoire, no backslash, no control characters, not blanks alone.
AE_TITLE = Form(
    re.compile(r"(?! )[ -\[\]-~]{1,16}(?<! )"),
    "an AE title: 1 to 16 ASCII characters, no backslash, no blank at its ends",
)
OPTIONAL_AE_TITLE = Form(re.compile(rf"(?:{AE_TITLE.pattern.pattern})?"), AE_TITLE.says)
NAME = Form(re.compile(r"[^\x00-\x1f\x7f]{1,64}"), "a name of 1 to 64 printable characters")
OPTIONAL_NAME = Form(re.compile(r"[^\x00-\x1f\x7f]{0,64}"), NAME.says)
HOST = Form(re.compile(r"[0-9A-Za-z.:_%-]{1,253}"), "a host name or an address")
OPTIONAL_HOST = Form(re.compile(r"[0-9A-Za-z.:_%-]{0,253}"), HOST.says)

# A label of a host's name (RFC 1123), short enough for a lease's owner to hold it.
INTAKE_NAME = Form(
    re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?)?"),
    "an intake's name: 1 to 48 lower-case letters, digits and hyphens, none of those at its ends",
)
ROLLOUTS = Form(
    re.compile(r"(?:(?:file://)?/[^\x00-\x1f\x7f]*|etcds?://[^\x00-\x20\x7f]+)?"),
    "a rollout store: a folder from the root (/...), or etcd://host:port/prefix",
)

# By the class's and the field's name. Every number has its range here: a test sees to it.
BOUNDS: dict[str, Range | Form | Filled] = {
    "Gateway.name": INTAKE_NAME,
    "Gateway.reporters": Range(1, 64),
    "Gateway.drain_s": Range(0, 600),
    "Dicom.ae_title": AE_TITLE,
    "Dicom.stat_ae_title": AE_TITLE,
    "Dicom.host": HOST,
    "Dicom.port": PORT,
    "Dicom.receivers": Range(1, 64),
    "Dicom.max_associations": Range(1, 4096),
    "Dicom.reserved_for_stat": Range(0, 256),
    "Dicom.max_pdu": Range(4096, 16 << 20),  # PS3.8 allows smaller and unlimited ones; neither serves
    "Dicom.artim_s": Range(0.1, 600),
    "Dicom.idle_s": Range(1, 86400),
    "Dicom.slowest_bytes_per_s": Range(0, 1 << 30),
    "Peer.ae_title": AE_TITLE,
    "Peer.host": OPTIONAL_HOST,
    "Peer.port": PORT_OR_NONE,
    "Http.host": HOST,
    "Http.port": PORT_OR_NONE,
    "Http.max_body_bytes": Range(1 << 10, 1 << 40),
    "Http.max_connections": Range(1, 65536),
    "Http.patience_s": Range(0.1, 600),
    "Http.slowest_bytes_per_s": Range(0, 1 << 30),
    "Intake.watermark_free_bytes": Range(0, 1 << 50),
    "Intake.overload_age_s": Range(0.1, 86400),
    "Intake.overload_series_age_s": Range(0.1, 86400),
    "Completeness.quiet_confirmed_s": Range(0, 3600),
    "Completeness.quiet_s": Range(0, 3600),
    "Triton.concurrency": Range(1, 256),
    "Triton.deadline_s": Range(0.1, 3600),
    "Triton.series_deadline_s": Range(0.1, 86400),
    "Triton.lease_s": Range(1, 86400),
    "Triton.attempts": Range(1, 100),
    "Triton.rollouts": ROLLOUTS,
    "Triton.shadows": Range(1, 4096),
    "Destination.name": NAME,
    "Destination.ae_title": OPTIONAL_AE_TITLE,
    "Destination.host": OPTIONAL_HOST,
    "Destination.port": PORT,
    "Destination.concurrency": Range(1, 256),
    "Destination.timeout_s": Range(0.1, 3600),
    "Destination.commitment_wait_s": Range(0.1, 7 * 86400),
    "Destination.give_up_after_h": Range(0.0001, 24 * 366),
    "Rule.name": NAME,
    "Rule.pipeline": OPTIONAL_NAME,
    "Match.modality": Filled(),
    "Match.body_part": Filled(),
    "Match.view": Filled(),
    "Match.calling_ae": Filled(),
    "Match.called_ae": Filled(),
    "Match.study_description": Filled(),
    "Match.series_description": Filled(),
    "Retention.pixels_h": Range(0, 24 * 3660),
    "Retention.unmatched_days": Range(0, 36600),
    "Retention.metadata_days": Range(0.0001, 36600),
}
