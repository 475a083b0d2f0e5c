"""The IHE integration statement: only what is true."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from wetread_gateway.conformance.markdown import MADE, code, document, numbered, table
from wetread_gateway.results import codes

if TYPE_CHECKING:
    from collections.abc import Iterator


def integration_statement() -> str:
    """Give the statement as Markdown."""
    sections = (
        ("Profiles and actors", _profiles()),
        ("AI Results: transactions of the Evidence Creator", _transactions()),
        ("AI Results: what the results hold", _results()),
        ("Not claimed", _not_claimed()),
    )
    version = importlib.metadata.version("wetread")
    cover = table(("", ""), [("product", "Wetread gateway"), ("version", version), ("vendor", "Wetread, open source")])
    warning = (
        "The product has been tried against DCMTK and Orthanc, not at a Connectathon. Not for clinical use. How it "
        "conforms to DICOM stands in the [conformance statement](conformance-statement.md)."
    )
    return document(["# IHE integration statement of the Wetread gateway", MADE, cover, warning, *numbered(sections)])


def _profiles() -> Iterator[str]:
    rows = [("Radiology", "AI Results (AIR), Trial Implementation", "Evidence Creator", "none")]
    yield table(("domain", "profile", "actor", "options"), rows)


def _transactions() -> Iterator[str]:
    rows = [
        ("Evidence Documents Stored [RAD-43]", "Comprehensive 3D SR, TID 1500; simpler SR classes where so configured"),
        ("Creator Images Stored [RAD-18]", "Secondary Capture with the heatmap; Segmentation of a CT or MR series"),
        ("Key Image Note Stored [RAD-29]", "only beside a withdrawal"),
        ("Storage Commitment [RAD-10]", "asked for every object, where the destination is so configured"),
    ]
    yield table(("transaction", "how"), rows)


def _results() -> Iterator[str]:
    rows = [
        ("qualitative findings", f"coded, {code(codes.PRESENT)}, {code(codes.ABSENT)} or {code(codes.UNDETERMINED)}"),
        ("measurements", f"{code(codes.PROBABILITY)} of each finding; {code(codes.VOLUME)} of each segment"),
        ("segmentations", "Segmentation (SEG), each segment referred to by its measurement group, TID 1411"),
        ("locations, regions, tracking over time, parametric maps", "not made"),
        ("device observer, algorithm identification (TID 4019)", "in every report, with the release"),
        ("tracking identifiers", "in every measurement group"),
        (
            "references to the images read",
            "image library, evidence, and source image of each finding, or source series of each segment",
        ),
        ("results of nothing found", f"coded {code(codes.ABSENT)}, never by silence"),
        ("images refused", "a report that says so, with the reason"),
    ]
    yield table(("content", "how"), rows)


def _not_claimed() -> Iterator[str]:
    yield "What is near to what the product does, and why it is not claimed:"
    rows = [
        ("AI Workflow for Imaging (AIW-I)", "work comes by routing, not by Unified Procedure Steps"),
        ("Imaging Object Change Management (IOCM)", "withdrawals carry Key Objects; those of others are not followed"),
        ("Consistent Time (CT)", "the operating system keeps the time, not the product"),
        ("Audit Trail and Node Authentication (ATNA)", "TLS yes; the audit trail has a form of its own"),
        ("Scheduled Workflow (SWF.b)", "no worklist and no performed procedure steps"),
        ("Web-based Image Access (WIA), Integrated Reporting (IRA)", "no such actor"),
    ]  # fmt: skip
    yield table(("profile", "why not"), rows)
