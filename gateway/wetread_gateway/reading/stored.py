"""A reading as it is kept: everything that a report says, so that a report built again is the same to the byte."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from wetread_client.card import Code, Reference

from wetread_gateway.reading.segmentation import StoredSegmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from wetread_client import PipelineCard, Reading


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a film was not read: the backend's word (`InvalidDicom`, `UnsupportedImage`) and its reason."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """One finding: its codes (the first one counts), calibrated probability and the release's threshold."""

    label: str
    codes: tuple[Code, ...]
    probability: float
    positive: bool
    threshold: float
    source_uid: str = ""
    """SOP Instance UID of the image that it was found on; empty: of the series as a whole."""


@dataclass(frozen=True, slots=True)
class StoredReading:
    """What a release said of its sources, or why it refused them.

    `read_at`: seconds since 1970; every date and time of a report comes from it. `intended_*`: of the release's card.
    `novelty`: above 1 the film is unlike those of training; None where the release does not tell it.
    `heatmap`: uint8 [C, h, w], zlib-compressed, with its shape; None where there is none. `heatmap_source_uid`: the
    image that a picture of the reading shows. `segmentation`: of a series; None where the release makes none.
    `reference`: of the release's card, for drift; kept once a release, not with the reading.
    """

    pipeline: str
    arm: str
    release: int
    algorithm: str
    manufacturer: str
    read_at: float
    findings: tuple[StoredFinding, ...] = ()
    novelty: float | None = None
    warnings: tuple[str, ...] = ()
    intended_statement: str = ""
    intended_modalities: tuple[str, ...] = ()
    intended_views: tuple[str, ...] = ()
    intended_age_years: tuple[float, float] | None = None
    refusal: Refusal | None = None
    heatmap: bytes | None = None
    heatmap_shape: tuple[int, int, int] | None = None
    heatmap_source_uid: str = ""
    segmentation: StoredSegmentation | None = None
    reference: Reference | None = None

    @classmethod
    def of(cls, reading: Reading, card: PipelineCard, arm: str, read_at: float, source_uid: str) -> StoredReading:
        """Keep what the client gave of one image."""
        thresholds = {finding.label: finding.threshold for finding in card.findings}
        use = card.intended_use
        heatmap = reading.heatmap
        return cls(
            pipeline=reading.pipeline,
            arm=arm,
            release=reading.release,
            algorithm=card.algorithm.name,
            manufacturer=card.algorithm.manufacturer,
            read_at=read_at,
            findings=tuple(
                StoredFinding(f.label, f.codes, float(f.probability), f.positive, thresholds[f.label], source_uid)
                for f in reading.findings
            ),
            novelty=reading.novelty,
            warnings=reading.notes.warnings,
            intended_statement=use.statement,
            intended_modalities=use.modalities,
            intended_views=use.views,
            intended_age_years=use.age_years,
            heatmap=None if heatmap is None else zlib.compress(np.ascontiguousarray(heatmap).tobytes(), 1),
            heatmap_shape=None if heatmap is None else (heatmap.shape[0], heatmap.shape[1], heatmap.shape[2]),
            heatmap_source_uid="" if heatmap is None else source_uid,
            reference=card.reference,
        )

    @classmethod
    def of_series(cls, reading: Reading, card: PipelineCard, arm: str, read_at: float) -> StoredReading:
        """Keep what the client gave of a series as a whole; ValueError when that contradicts itself."""
        kept = cls.of(reading, card, arm, read_at, "")
        segmentation = StoredSegmentation.of(reading, card)
        left_out = Counter(one.why for one in reading.notes.left_out)
        warnings = tuple(f"{count} images of the series not read: {why}" for why, count in left_out.items())
        shown = "" if segmentation is None else segmentation.sop_uids[segmentation.largest_slice()]
        return replace(kept, warnings=(*warnings, *kept.warnings), segmentation=segmentation, heatmap_source_uid=shown)

    def pixels(self) -> NDArray[np.uint8] | None:
        """Give the heatmap, uint8 [C, h, w]."""
        if self.heatmap is None or self.heatmap_shape is None:
            return None
        return np.frombuffer(zlib.decompress(self.heatmap), np.uint8).reshape(self.heatmap_shape)

    def document(self) -> dict[str, Any]:
        """Give all but the heatmap's bytes and the segmentation, as JSON has it."""
        content: dict[str, Any] = json.loads(
            json.dumps(asdict(replace(self, heatmap=None, segmentation=None, reference=None)))
        )
        del content["segmentation"], content["reference"]  # they have tables of their own
        return content

    @classmethod
    def parse(
        cls, document: dict[str, Any], heatmap: bytes | None, segmentation: StoredSegmentation | None = None
    ) -> StoredReading:
        """Read what `document` gave."""
        content = dict(document)
        content["findings"] = tuple(
            StoredFinding(**{**finding, "codes": tuple(Code(**code) for code in finding["codes"])})
            for finding in content["findings"]
        )
        for name in ("warnings", "intended_modalities", "intended_views", "intended_age_years", "heatmap_shape"):
            if content[name] is not None:
                content[name] = tuple(content[name])
        refusal = content["refusal"]
        content["refusal"] = None if refusal is None else Refusal(**refusal)
        content["heatmap"] = heatmap
        return cls(**content, segmentation=segmentation)
