"""From a work's images to what is stored of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client import Rejected, ServerError, Unavailable
from wetread_client.errors import Status

from wetread_gateway.errors import SourceMissing
from wetread_gateway.reading.stored import Refusal, StoredReading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer
    from wetread_client import Reading

    from wetread_gateway.reading.pipeline import Pipeline
    from wetread_gateway.reading.worklist import Lease

    Film = Callable[[int], Path | Buffer]

_FETCHERS = 8


@dataclass(frozen=True, slots=True)
class _Refused:
    source_uid: str
    refusal: Refusal


def read(
    lease: Lease,
    film: Film,
    pipeline: Pipeline,
    deadline_s: float,
    series_deadline_s: float = 300.0,
    *,
    heatmap: bool = True,
) -> StoredReading:
    """Read a work. `film`: gives its n-th image. `heatmap`: have the release make one, or a segmentation.

    A pipeline that takes series gets all images in one request, of `series_deadline_s`; any other gets one by one.

    What the pipeline refuses is a result too. Any other error of the client, OSError, or what `film` raises.
    """
    if not lease.sources:
        raise SourceMissing("the work names no image")
    if pipeline.takes_series():
        return _whole(lease, film, pipeline, series_deadline_s, heatmap)
    return _film_by_film(lease, film, pipeline, deadline_s, heatmap)


def _whole(lease: Lease, film: Film, pipeline: Pipeline, deadline_s: float, pictures: bool) -> StoredReading:
    """Read all images of a work as one series: one reading of it as a whole."""
    read_at = time.time()
    files = _files(film, len(lease.sources), is_together=len({source.home for source in lease.sources}) < 2)
    try:
        reading, card = pipeline.read_series(
            files, deadline_s, any_body_part=lease.any_body_part, segmentation=pictures
        )
    except Rejected as rejection:
        return _refusal(lease, [_Refused("", Refusal(rejection.code, rejection.message))], pipeline, read_at)
    _check(reading)
    try:
        return StoredReading.of_series(reading, card, lease.served.arm, read_at)
    except ValueError as error:
        raise ServerError(Status.INTERNAL.value, f"release {reading.release} answers with {error}") from error


def _files(film: Film, count: int, *, is_together: bool) -> list[Path | Buffer]:
    """Give all images; what comes from elsewhere comes some at a time, or a far gateway's distance counts for each.

    `is_together`: they lie in one place.
    """
    first = film(0)
    if is_together and isinstance(first, Path):
        return [first, *map(film, range(1, count))]
    with ThreadPoolExecutor(_FETCHERS, "fetch") as threads:
        return [first, *threads.map(film, range(1, count))]


def _film_by_film(lease: Lease, film: Film, pipeline: Pipeline, deadline_s: float, heatmap: bool) -> StoredReading:
    read_at = time.time()
    readings: list[StoredReading] = []
    refused: list[_Refused] = []
    for n, source in enumerate(lease.sources):
        try:
            reading, card = pipeline.read(film(n), deadline_s, any_body_part=lease.any_body_part, heatmap=heatmap)
        except Rejected as rejection:
            refused.append(_Refused(source.sop_uid, Refusal(rejection.code, rejection.message)))
            continue
        _check(reading)
        readings.append(StoredReading.of(reading, card, lease.served.arm, read_at, source.sop_uid))
    if not readings:
        return _refusal(lease, refused, pipeline, read_at)
    if len({reading.release for reading in readings}) > 1:
        raise Unavailable(Status.ABORTED.value, "the release changed while the series was read")
    return readings[0] if len(lease.sources) == 1 else _together(readings, refused)


def _check(reading: Reading) -> None:
    """ServerError when the numbers are none that can stand in a report."""
    is_number = reading.novelty is None or math.isfinite(reading.novelty)
    if not (is_number and all(0.0 <= f.probability <= 1.0 for f in reading.findings)):
        raise ServerError(Status.INTERNAL.value, f"release {reading.release} answers with numbers that are none")


def _together(readings: Sequence[StoredReading], refused: Sequence[_Refused]) -> StoredReading:
    """Make one reading of several films': all findings, the heatmap of the most probable positive one."""
    first = readings[0]
    shown = max((r for r in readings if _most(r) > 0.0), key=_most, default=None)
    images = len(readings) + len(refused)
    left_out = Counter(f"{r.refusal.code}: {r.refusal.reason}" for r in refused)
    warnings = [f"{count} of {images} images not read: {reason}" for reason, count in left_out.items()]
    warnings += dict.fromkeys(warning for reading in readings for warning in reading.warnings)
    return replace(
        first,
        findings=tuple(finding for reading in readings for finding in reading.findings),
        novelty=max((r.novelty for r in readings if r.novelty is not None), default=None),
        warnings=tuple(warnings),
        heatmap=shown.heatmap if shown else None,
        heatmap_shape=shown.heatmap_shape if shown else None,
        heatmap_source_uid=shown.heatmap_source_uid if shown else "",
    )


def _most(reading: StoredReading) -> float:
    """Give the probability of the most probable positive finding, 0 where none is positive."""
    return max((finding.probability for finding in reading.findings if finding.positive), default=0.0)


def _refusal(lease: Lease, refused: Sequence[_Refused], pipeline: Pipeline, read_at: float) -> StoredReading:
    reasons = list(dict.fromkeys(one.refusal for one in refused))
    together = reasons[0] if len(reasons) == 1 else Refusal(reasons[0].code, "; ".join(r.reason for r in reasons))
    known = pipeline.release()
    bare = StoredReading(lease.served.pipeline, lease.served.arm, 0, "", "", read_at, refusal=together)
    if known is None:
        return bare
    release, card = known
    use = card.intended_use
    return replace(
        bare,
        release=release,
        algorithm=card.algorithm.name,
        manufacturer=card.algorithm.manufacturer,
        intended_statement=use.statement,
        intended_modalities=use.modalities,
        intended_views=use.views,
        intended_age_years=use.age_years,
    )
