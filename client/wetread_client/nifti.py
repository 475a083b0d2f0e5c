"""Write a segmentation as NIfTI-1, for viewers that know no DICOM."""

from __future__ import annotations

import gzip
import json
import struct
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from wetread_client.notes import SeriesGeometry
    from wetread_client.reading import Reading
    from wetread_client.sorting import Work

# nifti1.h: each field's place in the header of 348 bytes.
_HEADER_BYTES, _DATA_AT = 348, 352
_DIM, _DATATYPE, _BITPIX, _PIXDIM, _VOX_OFFSET = 40, 70, 72, 76, 108
_XYZT_UNITS, _SFORM_CODE, _SROW, _MAGIC = 123, 254, 280, 344
_UINT8, _MILLIMETRES, _SCANNER = 2, 2, 1
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_EVEN_MM = 0.01


class SegmentationFolder:
    """A folder of segmentations: NAME.nii.gz, and NAME.json that says what the labels stand for.

    Named after the folder and number of each series; of several of one name all but the first of `works` get a number.
    """

    def __init__(self, folder: Path, works: Iterable[Work]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._names: dict[Work, Path] = {}
        counts: Counter[str] = Counter()
        for work in works:
            name = work.folder.absolute().name or "series"
            name = name if work.number is None else f"{name}_{work.number}"
            counts[name] += 1
            self._names[work] = folder / (f"{name}.nii.gz" if counts[name] == 1 else f"{name}.{counts[name]}.nii.gz")

    def write(self, work: Work, reading: Reading) -> Path | None:
        """Write one reading's segmentation, None where it has none."""
        series = reading.notes.series
        if reading.segmentation is None or series is None:
            return None
        target = self._names[work]
        target.write_bytes(nifti(reading.segmentation, series))
        segments = [{"value": segment.value, "label": segment.label} for segment in reading.segments]
        document = {"pipeline": reading.pipeline, "release": reading.release, "segments": segments}
        target.with_name(target.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(document) + "\n")
        return target


def nifti(labels: NDArray[np.uint8], series: SeriesGeometry) -> bytes:
    """Give the .nii.gz of `labels`, uint8 [slices, rows, columns]: axes column, row, slice, millimetres in RAS.

    One matrix places all voxels (NIfTI-1, method 3), so between slices at uneven distances it is right only for the
    first and the last: see `is_even`.
    """
    place = _LPS_TO_RAS @ np.array(series.affine)[:, [2, 1, 0, 3]]
    header = bytearray(_DATA_AT)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, _DIM, 3, series.columns, series.rows, series.slices, 1, 1, 1, 1)
    struct.pack_into("<2h", header, _DATATYPE, _UINT8, 8)
    struct.pack_into("<8f", header, _PIXDIM, 1, *np.linalg.norm(place[:3, :3], axis=0), 1, 1, 1, 1)
    struct.pack_into("<3f", header, _VOX_OFFSET, _DATA_AT, 1, 0)
    header[_XYZT_UNITS] = _MILLIMETRES
    struct.pack_into("<h", header, _SFORM_CODE, _SCANNER)
    struct.pack_into("<12f", header, _SROW, *place[:3].ravel())
    struct.pack_into("4s", header, _MAGIC, b"n+1\0")
    # The last index of a C array runs fastest, as the first of a NIfTI file does.
    return gzip.compress(bytes(header) + np.ascontiguousarray(labels).tobytes(), 1, mtime=0)


def is_even(series: SeriesGeometry) -> bool:
    """Say whether the matrix of `nifti` places every slice within a hundredth of a millimetre."""
    affine = np.array(series.affine)
    told = affine[:3, 3] + np.arange(series.slices)[:, None] * affine[:3, 0]
    return bool(np.abs(told - np.array(series.positions_mm)).max() < _EVEN_MM)
