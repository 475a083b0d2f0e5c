"""A segmentation as it is kept: a label for every pixel of the series, and what the labels stand for."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from wetread_client.card import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from wetread_client import PipelineCard, Reading

Point = tuple[float, float, float]
_LARGEST = 1 << 31  # pixels; what a reader elsewhere hands in shall not blow up to more


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One segment: its label in the array, its codes by the release's card (the first one counts), and its size.

    `colour`: red, green, blue, 0 to 255. `volume_ml`: by the slices' true distances.
    """

    value: int
    label: str
    codes: tuple[Code, ...]
    category: Code
    colour: tuple[int, int, int]
    voxels: int
    volume_ml: float


@dataclass(frozen=True, slots=True)
class StoredSegmentation:
    """Labels of a series, in the order of its slices along their normal.

    `shape`: slices, rows, columns. `sop_uids`, `frames`: the image of each slice, and which frame of it, from 0; images
    that the release left out are not among them. `positions_mm`: of each slice's first pixel, in the patient (LPS).
    `pixel_spacing_mm`: between rows, between columns. `labels`: uint8 [slices, rows, columns], zlib-compressed.
    """

    shape: tuple[int, int, int]
    sop_uids: tuple[str, ...]
    frames: tuple[int, ...]
    positions_mm: tuple[Point, ...]
    row_direction: Point
    column_direction: Point
    pixel_spacing_mm: tuple[float, float]
    segments: tuple[StoredSegment, ...]
    labels: bytes

    def __post_init__(self) -> None:
        pixels = self.shape[0] * self.shape[1] * self.shape[2]
        counts = {len(self.sop_uids), len(self.frames), len(self.positions_mm)}
        if min(self.shape) < 1 or pixels > _LARGEST or counts != {self.shape[0]}:
            raise ValueError("a segmentation whose shape is none, or whose slices are not all named")

    @classmethod
    def of(cls, reading: Reading, card: PipelineCard) -> StoredSegmentation | None:
        """Keep the segmentation of a reading, None where it has none; ValueError when it contradicts its geometry."""
        labels, geometry = reading.segmentation, reading.notes.series
        if labels is None:
            return None
        if geometry is None or labels.shape != (geometry.slices, geometry.rows, geometry.columns):
            raise ValueError(f"a segmentation of shape {labels.shape} without the geometry of its series")
        values = [segment.value for segment in card.segments]
        counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in labels])
        if set(np.flatnonzero(counts.sum(axis=0)).tolist()) - {0, *values}:
            raise ValueError("a segmentation with labels that its release's card does not name")
        volumes = counts[:, values].T @ geometry.voxel_ml
        return cls(
            shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
            sop_uids=geometry.sop_instance_uids,
            frames=geometry.frames,
            positions_mm=geometry.positions_mm,
            row_direction=geometry.row_direction,
            column_direction=geometry.column_direction,
            pixel_spacing_mm=geometry.pixel_spacing_mm,
            segments=tuple(
                StoredSegment(
                    value=segment.value,
                    label=segment.label,
                    codes=segment.codes,
                    category=segment.category,
                    colour=segment.colour,
                    voxels=int(counts[:, segment.value].sum()),
                    volume_ml=round(float(volume), 3),
                )
                for segment, volume in zip(card.segments, volumes, strict=True)
            ),
            labels=zlib.compress(np.ascontiguousarray(labels).data, 1),
        )

    def pixels(self) -> NDArray[np.uint8]:
        """Give the labels, uint8 [slices, rows, columns]; ValueError when they are not of that shape."""
        size = self.shape[0] * self.shape[1] * self.shape[2]
        unpacking = zlib.decompressobj()
        try:
            data = unpacking.decompress(self.labels, size + 1)
        except zlib.error as error:
            raise ValueError("labels that cannot be unpacked") from error
        if len(data) != size:
            raise ValueError(f"labels of {len(data)} bytes or more, where {size} are told")
        return np.frombuffer(data, np.uint8).reshape(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel belongs to a segment."""
        return not any(segment.voxels for segment in self.segments)

    def largest_slice(self) -> int:
        """Give the slice with the most pixels of any segment."""
        return int(np.argmax(np.count_nonzero(self.pixels(), axis=(1, 2))))

    def document(self) -> dict[str, Any]:
        """Give all but the labels, as JSON has it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(replace(self, labels=b"")) | {"labels": None}))
        del content["labels"]
        return content

    @classmethod
    def parse(cls, document: dict[str, Any], labels: bytes) -> StoredSegmentation:
        """Read what `document` gave."""
        return cls(
            shape=_three(document["shape"]),
            sop_uids=tuple(document["sop_uids"]),
            frames=tuple(document["frames"]),
            positions_mm=tuple(map(_point, document["positions_mm"])),
            row_direction=_point(document["row_direction"]),
            column_direction=_point(document["column_direction"]),
            pixel_spacing_mm=_pair(document["pixel_spacing_mm"]),
            segments=tuple(
                StoredSegment(
                    **{
                        **segment,
                        "codes": tuple(Code(**code) for code in segment["codes"]),
                        "category": Code(**segment["category"]),
                        "colour": _three(segment["colour"]),
                    }
                )
                for segment in document["segments"]
            ),
            labels=labels,
        )


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third


def _point(values: Sequence[float]) -> Point:
    x, y, z = values
    return float(x), float(y), float(z)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    first, second = values
    return float(first), float(second)
