"""Gauges of what the gateway stands on: its disk, its memory, its certificates."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily

from wetread_gateway.memory import memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_gateway.config.settings import Settings
    from wetread_gateway.context import Context


def machine_gauges(context: Context) -> Iterator[GaugeMetricFamily]:
    """Give what disk and memory have and may have."""
    disk = os.statvfs(context.spool.root)
    used = memory()
    values = (
        ("spool_bytes_free", "Bytes free on the spool's disk.", disk.f_bavail * disk.f_frsize),
        ("spool_bytes_total", "Bytes that the spool's disk has.", disk.f_blocks * disk.f_frsize),
        (
            "spool_bytes_watermark",
            "Free bytes below which the doors take nothing more.",
            context.settings.intake.watermark_free_bytes,
        ),
        ("memory_bytes", "Memory that this container uses, without what can be dropped at once.", used.used),
        ("memory_limit_bytes", "Memory that this container may use; the machine's where it has no limit.", used.limit),
    )
    for name, text, value in values:
        yield GaugeMetricFamily(f"wetread_gateway_{name}", text, value=value)


class Certificates:
    """Tells when our certificates end; a file is read when it has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, float]] = {}

    def gauges(self, settings: Settings) -> Iterator[GaugeMetricFamily]:
        """Give the end of the first of each file's certificates that ends; 0 where the file cannot be read."""
        family = GaugeMetricFamily(
            "wetread_gateway_certificate_not_after_seconds",
            "When the certificates of a role end, seconds since 1970; 0: they cannot be read.",
            labels=["role"],
        )
        ends: dict[str, float] = {}
        for role, file in _files(settings):
            ends[role] = min(self._end(file), ends.get(role, float("inf")))
        for role, end in ends.items():
            family.add_metric([role], end)
        yield family

    def _end(self, file: Path) -> float:
        try:
            stamp = file.stat().st_mtime_ns
            known = self._known.get(file)
            if known is None or known[0] != stamp:
                found = x509.load_pem_x509_certificates(file.read_bytes())
                known = self._known[file] = stamp, min(one.not_valid_after_utc.timestamp() for one in found)
        except (OSError, ValueError):
            return 0.0
        return known[1]


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    for role, tls in (("dicom", settings.dicom.tls), ("http", settings.http.tls)):
        if tls is not None:
            yield role, tls.certificate
            if tls.authorities is not None:
                yield f"{role}_authorities", tls.authorities
    for destination in settings.destination:
        if destination.authorities is not None:
            yield "destination_authorities", destination.authorities
