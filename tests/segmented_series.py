"""Series with a segmentation, for the tests of what the gateway makes of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from report_cases import order, reading
from series_files import file_bytes, multiframe, series_datasets
from wetread_client.card import Code
from wetread_gateway.reading.segmentation import StoredSegment, StoredSegmentation
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.sources import sources_of

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.results.order import ReportOrder

BOTH = frozenset({ObjectKind.SEGMENTATION, ObjectKind.SR_COMPREHENSIVE_3D})
TISSUE = Code("SCT", "85756007", "Tissue")
SEGMENTS = (
    ("white matter", (Code("SCT", "389080008", "White Matter"),), (240, 240, 220)),
    ("grey matter", (Code("SCT", "389081007", "Gray Matter"),), (200, 120, 90)),
)
SLICES, ROWS, COLUMNS = 12, 10, 13


def blobs(slices: int = SLICES, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Labels, uint8 [slices, rows, columns]: two boxes of which none touches the first and the last slice."""
    labels = np.zeros((slices, rows, columns), np.uint8)
    labels[2 : slices // 2, 2:5, 1:6] = 1
    labels[slices // 3 : -2, 5:9, 3:10] = 2
    labels[3, 0, 0] = 2
    return labels


@dataclass(frozen=True)
class Segmented:
    """A series in files, in the order of its slices, and a reading that segments it."""

    files: list[Path]
    labels: np.ndarray
    reading: StoredReading

    @property
    def kept(self) -> StoredSegmentation:
        assert self.reading.segmentation is not None
        return self.reading.segmentation

    def order(self, files: list[Path] | None = None, **changes: object) -> ReportOrder:
        """An order of a Segmentation and a report, over `files` in the order given."""
        sources = list(sources_of(files or self.files))
        usual = {"expected": len(sources), "completeness": "confirmed", "unknown_age_is_inside": True, "wanted": BOTH}
        return order(sources, self.reading, **{**usual, **changes})


def segmented(folder: Path, labels: np.ndarray | None = None, *, frames: bool = False, **series: object) -> Segmented:
    """Write an MR series and segment it; `frames`: one multi-frame image whose frames are stored backwards."""
    labels = blobs() if labels is None else labels
    values = (100 * labels.astype(np.int16) + np.arange(labels.shape[2])).astype(np.int16)
    if frames:
        positions = np.array([[0.0, 0.0, 2.0 * place] for place in range(len(labels))])
        image = multiframe(values[::-1], positions[::-1])
        uids = (str(image.SOPInstanceUID),) * len(labels)
        numbers = tuple(reversed(range(len(labels))))
        datasets = [image]
    else:
        datasets = series_datasets(values, **{"modality": "MR", "body_part": "BRAIN", "step_mm": 2.0, **series})
        positions = np.array([[float(x) for x in one.ImagePositionPatient] for one in datasets])
        uids = tuple(str(one.SOPInstanceUID) for one in datasets)
        numbers = (0,) * len(labels)
    files = []
    for place, dataset in enumerate(datasets):
        files.append(folder / f"{place}.dcm")
        files[-1].write_bytes(file_bytes(dataset))
    directions = [1, 0, 0, 0, 1, 0] if frames else [float(x) for x in datasets[0].ImageOrientationPatient]
    kept = _kept(labels, uids, numbers, positions, directions, (1.0, 1.0))
    return Segmented(files, labels, told(kept))


def segmented_files(files: list[Path]) -> Segmented:
    """Segment a series that is there, one image a file, with two boxes."""
    heads = [(file, pydicom.dcmread(file, stop_before_pixels=True)) for file in files]
    heads = [(file, head) for file, head in heads if "ImagePositionPatient" in head]
    directions = [float(x) for x in heads[0][1].ImageOrientationPatient]
    normal = np.cross(directions[:3], directions[3:])
    heads.sort(key=lambda one: float(np.array(one[1].ImagePositionPatient, float) @ normal))
    datasets = [head for _, head in heads]
    labels = blobs(len(heads), datasets[0].Rows, datasets[0].Columns)
    positions = np.array([[float(x) for x in head.ImagePositionPatient] for head in datasets])
    uids = tuple(str(head.SOPInstanceUID) for head in datasets)
    spacing = tuple(float(x) for x in datasets[0].PixelSpacing)
    kept = _kept(labels, uids, (0,) * len(heads), positions, directions, spacing)
    return Segmented([file for file, _ in heads], labels, told(kept))


def _kept(labels, uids, numbers, positions, directions, spacing) -> StoredSegmentation:
    return StoredSegmentation(
        shape=labels.shape,
        sop_uids=uids,
        frames=numbers,
        positions_mm=tuple(map(tuple, positions.tolist())),
        row_direction=tuple(directions[:3]),
        column_direction=tuple(directions[3:]),
        pixel_spacing_mm=spacing,
        segments=tuple(
            StoredSegment(value, label, codes, TISSUE, colour, voxels, voxels / 500)
            for value, (label, codes, colour) in enumerate(SEGMENTS, 1)
            for voxels in [int((labels == value).sum())]
        ),
        labels=zlib.compress(labels.tobytes(), 1),
    )


def told(kept: StoredSegmentation) -> StoredReading:
    """A reading of nothing but a segmentation."""
    made = reading("", intended_modalities=("MR", "CT"), intended_views=(), intended_age_years=(0, 120), novelty=None)
    shown = kept.sop_uids[kept.largest_slice()]
    bare = replace(made, findings=(), heatmap=None, heatmap_shape=None, heatmap_source_uid=shown)
    return replace(bare, pipeline="brain_mr", segmentation=kept)
