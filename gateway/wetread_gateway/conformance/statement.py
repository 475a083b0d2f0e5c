"""The DICOM conformance statement, in the order of the template of PS3.2, annex N."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from wetread_gateway.conformance import objects, services
from wetread_gateway.conformance.markdown import MADE, document, numbered, table
from wetread_gateway.dimse.tls import CIPHERS

if TYPE_CHECKING:
    from collections.abc import Iterator


def conformance_statement() -> str:
    """Give the statement as Markdown."""
    sections = (
        ("Conformance statement overview", services.overview()),
        ("Introduction", _introduction()),
        ("Services and interoperability", _model()),
        ("Associations", services.associations()),
        ("SOP classes accepted", services.accepted_classes()),
        ("SOP classes proposed", services.proposed_classes()),
        ("Storage commitment", services.commitment()),
        ("Queries", services.queries()),
        ("Statuses", services.status_tables()),
        ("Configuration", _configuration()),
        ("Security", _security()),
        ("Character sets", objects.character_sets()),
        ("Objects created", objects.created()),
        ("Attributes taken over, and coercion", objects.coercion()),
    )
    return document(["# DICOM conformance statement of the Wetread gateway", MADE, *_cover(), *numbered(sections)])


def _cover() -> Iterator[str]:
    rows = [
        ("product", "Wetread gateway"),
        ("version", importlib.metadata.version("wetread")),
        ("use", "research and development; not for clinical use"),
        ("manufacturer", "Wetread, an open source project"),
    ]
    yield table(("", ""), rows)
    yield (
        "The gateway receives images from modalities and archives, has them read by models on NVIDIA Triton Inference "
        "Server, and stores what was found in the archive, as DICOM structured reports and Secondary Captures."
    )


def _introduction() -> Iterator[str]:
    yield (
        "For integrators and administrators who connect the gateway. A conformance statement is no proof that two "
        "products work together: try it, with `wetread doctor` and with test studies, before anybody relies on it. "
        "Tables of this document come from the code that runs. Values named *default* are settings "
        "([gateway-settings.md](gateway-settings.md))."
    )


def _model() -> Iterator[str]:
    yield (
        "Application entities: **receiver** accepts associations (Storage and Verification SCP, takes commitment "
        "reports); **delivery** requests them (Storage, Storage Commitment and Query SCU); **triage** requests them "
        "to ask a sender how many images a series has (Query SCU); **http** is a STOW-RS origin server; delivery is "
        "a STOW-RS and QIDO-RS user agent too. All share one AE title."
    )
    yield (
        "Real-world activities: (1) an instance arrives, is made durable, and Success is answered; (2) rules choose "
        "its pipeline, priority and destinations; (3) when its study or series is whole it is read; (4) results are "
        "built and made durable; (5) they are sent to each destination until it has answered Success for each, and "
        "has named each when asked by storage commitment, C-FIND or QIDO-RS."
    )
    yield (
        "The same instance again is answered and read once, also in another lossless transfer syntax. Other pixels "
        "under a known UID are answered with Success, quarantined and alerted on. Equal pixels under another patient "
        "or study are a correction: a new report under the new identity, the old one withdrawn. Results of the "
        "gateway itself that come back are answered and never read."
    )


def _configuration() -> Iterator[str]:
    yield (
        "AE titles, addresses, ports, peers, destinations and rules stand in one TOML file. Remote AE titles are "
        "mapped to addresses by `[[peer]]` and `[[destination]]`. There is no LDAP, DHCP or mDNS. Time comes from "
        "the operating system, which should be synchronised by NTP. IPv4 and IPv6."
    )


def _security() -> Iterator[str]:
    rows = [
        ("DICOM over TLS", "BCP 195 TLS Secure Transport Connection Profile (PS3.15, B.12): TLS 1.2 and 1.3"),
        ("cipher suites of TLS 1.2", f"`{CIPHERS}` (OpenSSL's notation); those of TLS 1.3 are OpenSSL's own"),
        ("certificates", "of both sides, X.509; the called host's name is checked by the requestor"),
        ("HTTP", "TLS 1.2 or later with client certificates or bearer tokens; plain HTTP on loopback only"),
        ("association level", "called and calling AE titles and addresses by table"),
        ("user identity negotiation", "not supported"),
        ("audit trail", "JSON lines, durable before an action is acknowledged; not in the form of PS3.15, A.5"),
        ("digital signatures, de-identification", "not supported"),
    ]
    yield table(("", ""), rows)
    yield "TLS is a setting. Without it the DICOM door is to be reached from the modalities' network only."
