"""NIfTI-1 files of volumes: one compressed file, header and voxels, written in slabs."""

import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.grid import Affine

ENDINGS = (".nii.gz", ".nii")
GZIP_LEVEL = 1
"""Noise does not compress: level 6 saves one hundredth of a CT and takes nearly twice as long."""

# https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h: the header's fields, by their place in it.
_HEADER_BYTES = 348
_VOXELS_AT = 352
_DATATYPES = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32)}  # DT_UINT8, DT_INT16, DT_FLOAT32; bits
_UNKNOWN, _SCANNER = 0, 1  # NIFTI_XFORM_UNKNOWN, NIFTI_XFORM_SCANNER_ANAT
_MM_AND_SECONDS = 2 | 8  # NIFTI_UNITS_MM, NIFTI_UNITS_SEC
_MOST_VOXELS_AN_AXIS = 32767  # dim is short
_SLAB_BYTES = 2 * 2**20


def write_nifti(
    file: BinaryIO,
    values: npt.NDArray[Any],
    ras_affine: Affine,
    *,
    compress: bool = True,
    threads: int = 1,
    placed: bool = True,
    description: str = "",
) -> None:
    """Write `values` [i, j, k] (uint8, int16 or float32) to `file`, i fastest, as NIfTI stores and nibabel indexes it.

    `ras_affine`: float64 [4, 4], index (i, j, k, 1) -> mm, +x to the patient's right, +y to the front, +z upwards
    (`Grid.ras_affine`); its axes at right angles, of either handedness. It is written twice, in single precision:
    as matrix (sform) and as quaternion (qform), both of code 1 (scanner). `placed`: False where it lies nowhere in a
    patient, as a film: both codes are 0 (unknown), only the spacing counts. Memory beside `values`: a slab of 2 MB,
    and compressed two for each of `threads`. The same volume always gives the same bytes. `description`: at most 79
    ASCII characters.

    Raises:
        ValueError: another type, not three axes, an axis of none or above 32767 voxels, or an affine with skew.
    """
    header = _header(values, ras_affine, _SCANNER if placed else _UNKNOWN, description)
    if compress:
        _write_gzip(file, _pieces(header, values), threads)
    else:
        for piece in _pieces(header, values):
            file.write(piece)


def is_nifti_name(path: Path) -> bool:
    """Say whether a file of that name is one that this module writes."""
    return path.name.lower().endswith(ENDINGS)


def _pieces(header: bytes, values: npt.NDArray[Any]) -> Iterator[memoryview]:
    """Give the file's bytes, one slab of planes after the other."""
    yield memoryview(header)
    stored = values.dtype.newbyteorder("<")
    planes = max(1, _SLAB_BYTES // (values.shape[0] * values.shape[1] * values.itemsize))
    for start in range(0, values.shape[2], planes):
        slab = values[:, :, start : start + planes].transpose(2, 1, 0)
        yield np.ascontiguousarray(slab, stored).data.cast("B")


def _write_gzip(file: BinaryIO, pieces: Iterator[memoryview], threads: int) -> None:
    """Write one gzip member (RFC 1952) whose pieces are compressed beside each other, without a name or a time."""
    file.write(b"\x1f\x8b\x08\0\0\0\0\0\x04\xff")  # deflate, no flags, no time, fastest, unknown system
    checksum, size = 0, 0
    under_way: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for piece in pieces:
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
            under_way.append(pool.submit(_deflated, piece))
            if len(under_way) > threads:
                file.write(under_way.popleft().result())
        for left in under_way:
            file.write(left.result())
    file.write(b"\x03\0")  # a last block, empty (RFC 1951, 3.2.3)
    file.write(struct.pack("<2I", checksum, size % 2**32))


def _deflated(piece: memoryview) -> bytes:
    """Compress a piece to blocks that end on a byte, so that others can follow."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)


def _header(values: npt.NDArray[Any], ras_affine: Affine, code: int, description: str) -> bytes:
    if values.dtype.name not in _DATATYPES:
        raise ValueError(f"NIfTI files hold {', '.join(_DATATYPES)} here, not {values.dtype}")
    if values.ndim != 3 or not all(0 < side <= _MOST_VOXELS_AN_AXIS for side in values.shape):
        raise ValueError(f"a NIfTI volume has three axes of 1-{_MOST_VOXELS_AN_AXIS} voxels, not {values.shape}")
    spacing, handedness, quaternion = _rigid(ras_affine)
    datatype, bits = _DATATYPES[values.dtype.name]
    header = bytearray(_VOXELS_AT)  # the four bytes behind it: no extensions
    fields: tuple[tuple[int, str, tuple[Any, ...]], ...] = (
        (0, "<i", (_HEADER_BYTES,)),
        (40, "<8h", (3, *values.shape, 1, 1, 1, 1)),
        (70, "<2h", (datatype, bits)),
        (76, "<8f", (handedness, *spacing, 0, 0, 0, 0)),
        (108, "<3f", (_VOXELS_AT, 1, 0)),  # vox_offset; scl_slope and scl_inter: values as they are
        (123, "<B", (_MM_AND_SECONDS,)),
        (148, "79s", (description.encode("ascii", "replace"),)),
        (252, "<2h", (code, code)),  # qform_code, sform_code
        (256, "<6f", (*quaternion, *ras_affine[:3, 3])),
        (280, "<12f", tuple(ras_affine[:3].ravel())),
        (344, "4s", (b"n+1\0",)),
    )
    for at, form, content in fields:
        struct.pack_into(form, header, at, *content)
    return bytes(header)


def _rigid(affine: Affine) -> tuple[list[float], float, tuple[float, float, float]]:
    """Take an affine apart: spacing of each axis, qfac (-1: left-handed, k is turned), and the quaternion's b, c, d.

    The first component, a, is not stored; it is the root of what the others leave of 1, and so kept at 0 or above.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all():
        raise ValueError("the affine's axes have no length")
    rotation = affine[:3, :3] / spacing
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-5:
        raise ValueError("the affine's axes are not at right angles; NIfTI's quaternion cannot say that")
    handedness = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    rotation[:, 2] *= handedness
    # The rotation's quaternion is the eigenvector of the largest eigenvalue, 1 (Bar-Itzhack 2000): it has no case
    # where a small component is divided by, as half turns have it.
    xx, xy, xz, yx, yy, yz, zx, zy, zz = rotation.ravel()
    symmetric = np.array(
        [
            [xx + yy + zz, 0, 0, 0],
            [zy - yz, xx - yy - zz, 0, 0],
            [xz - zx, yx + xy, yy - xx - zz, 0],
            [yx - xy, zx + xz, zy + yz, zz - xx - yy],
        ]
    )
    a, b, c, d = np.linalg.eigh(symmetric / 3, UPLO="L")[1][:, -1]
    sign = -1.0 if a < 0 else 1.0
    return spacing.tolist(), handedness, (float(sign * b), float(sign * c), float(sign * d))
