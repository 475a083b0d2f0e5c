"""Read films and series on a Wetread server."""

from wetread_client.aio import AsyncClient
from wetread_client.card import PipelineCard, SegmentCard
from wetread_client.client import Client, FilmResult
from wetread_client.errors import Rejected, ServerError, Unavailable, WetreadError
from wetread_client.fake import FakeTransport
from wetread_client.notes import Notes, SeriesGeometry
from wetread_client.reading import Finding, Reading
from wetread_client.retry import Retry

__all__ = [
    "AsyncClient",
    "Client",
    "FakeTransport",
    "FilmResult",
    "Finding",
    "Notes",
    "PipelineCard",
    "Reading",
    "Rejected",
    "Retry",
    "SegmentCard",
    "SeriesGeometry",
    "ServerError",
    "Unavailable",
    "WetreadError",
]
