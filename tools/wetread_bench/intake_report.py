"""What a report costs by itself: built again and again from one film's reading, in a process that does nothing else."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from wetread_client import Client
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.results.order import ObjectKind, ReportOrder, Source
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from pathlib import Path

_WARM_UP, _TIMES = 5, 100


def report_build_ms(triton_url: str, film: Path, study_uid: str, times: int = _TIMES) -> dict[str, float]:
    """Give the median milliseconds of building a structured report, a capture and both from a film on disk."""
    data = film.read_bytes()
    with Client(triton_url) as client:
        reading = client.read(data, any_body_part=True)
        card = client.card(reading.release)
    assert card is not None  # it came with the answer
    source = Source.of_file(film)
    stored = StoredReading.of(reading, card, "stable", time.time(), source.sop_instance_uid)
    wanted = {
        "sr": frozenset({ObjectKind.SR_COMPREHENSIVE_3D}),
        "capture": frozenset({ObjectKind.CAPTURE}),
        "both": frozenset({ObjectKind.SR_COMPREHENSIVE_3D, ObjectKind.CAPTURE}),
    }
    reporter = Reporter()
    found = {}
    for name, kinds in wanted.items():
        took = []
        for number in range(1, times + _WARM_UP + 1):
            order = ReportOrder(
                WorkKind.READ, number, (source,), stored, None, "single", (),
                unknown_age_is_inside=True, wanted=kinds, study_uid=study_uid,
            )  # fmt: skip
            began = time.perf_counter()
            reporter.build(order, film)
            took.append(time.perf_counter() - began)
        found[name] = round(statistics.median(took[_WARM_UP:]) * 1e3, 3)
    began = time.perf_counter()
    for _ in range(times):
        Source.of_file(film)
    return found | {"source": round((time.perf_counter() - began) / times * 1e3, 3)}
