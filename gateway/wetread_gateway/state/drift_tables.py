"""The state store's tables for drift: what readings are compared with, and how many fell where."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Integer, String, Table

from wetread_gateway.state.tables import METADATA

SITE, SCANNER, SCORE = 16, 64, 64  # characters

DRIFT_REFERENCES = Table(  # of each release that tells one; it comes with the release's first reading
    "drift_references",
    METADATA,
    Column("pipeline", String(64), primary_key=True),
    Column("release", Integer, primary_key=True),
    Column("document", JSON, nullable=False),  # a Reference
)

DRIFT_COUNTS = Table(  # readings by day and by bin of the reference; days past the window are dropped
    "drift_counts",
    METADATA,
    Column("pipeline", String(64), primary_key=True),
    Column("release", Integer, primary_key=True),
    Column("site", String(SITE), primary_key=True),
    Column("scanner", String(SCANNER), primary_key=True),
    Column("score", String(SCORE), primary_key=True),  # a finding's label, or NOVELTY
    Column("day", Integer, primary_key=True),  # since 1970
    Column("bin", Integer, primary_key=True),
    Column("readings", Integer, nullable=False),
)
