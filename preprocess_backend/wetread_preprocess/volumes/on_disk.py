"""The DICOM series that lie below files and folders, told by their headers."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

_TAGS = [
    "SeriesInstanceUID", "Modality", "ImageType", "NumberOfFrames", "Rows", "Columns", "BodyPartExamined",
]  # fmt: skip


@dataclass(frozen=True)
class SeriesOnDisk:
    """The files of one Series Instance UID (0020,000E), or of none."""

    uid: str
    modality: str
    body_part: str
    files: tuple[Path, ...]
    """In the order of their paths."""
    images: int
    """Frames counted; 0 where the files hold no pixels, as reports do."""
    rows: int
    columns: int
    is_localiser: bool
    """Every image is a LOCALIZER by Image Type (0008,0008)."""
    is_derived: bool
    """Every image is DERIVED by Image Type (0008,0008)."""

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Sorts the series that is most likely meant before others: no localiser, acquired as it is, of most images."""
        return self.is_localiser, self.is_derived, -self.images


@dataclass(frozen=True)
class Found:
    """What lies below the paths that were named."""

    series: tuple[SeriesOnDisk, ...]
    """Best first, see `SeriesOnDisk.rank`; equal ones in the order of their paths."""
    unreadable: tuple[Path, ...]
    """Named files, and files that begin like DICOM, whose header cannot be read."""
    skipped: int
    """Files in folders that are no DICOM files."""


def find_series(paths: Iterable[Path], seen: Callable[[], object] = lambda: None) -> Found:
    """Look through files and folders (all below them); a DICOMDIR stands for the folder it lies in.

    A file that is named itself is taken as DICOM with or without its preamble, one in a folder only with it.
    `seen` is called after each file.
    """
    found: dict[str, list[tuple[Path, Dataset]]] = {}
    unreadable = []
    skipped = 0
    for path, is_named in _files(paths):
        header = _header(path, is_named)
        if header is None:
            skipped += 1
        elif not header:
            unreadable.append(path)
        else:
            found.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append((path, header))
        seen()
    series = (_series(uid, members) for uid, members in found.items())
    return Found(tuple(sorted(series, key=lambda one: one.rank)), tuple(unreadable), skipped)


def count_files(paths: Iterable[Path]) -> int:
    """Say how many files `find_series` will look at."""
    return sum(1 for _ in _files(paths))


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file once, and whether it was named itself."""
    done = set()
    for path in paths:
        folder = path.parent if path.name == "DICOMDIR" else path
        inside = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        for file in inside:
            if file.name != "DICOMDIR" and file.is_file() and (key := file.resolve()) not in done:
                done.add(key)
                yield file, not folder.is_dir()


def _header(path: Path, is_named: bool) -> Dataset | None:
    """Give the few attributes that tell series apart; None: no DICOM file, empty: one that cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            if not is_named and file.read(132)[128:] != b"DICM":
                return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pydicom's, of odd values; the decoder judges them
            return pydicom.dcmread(path, stop_before_pixels=True, force=is_named, specific_tags=list(_TAGS))
    except Exception:  # noqa: BLE001 -- pydicom raises whatever broken bytes make it stumble over
        return Dataset()


def _series(uid: str, members: list[tuple[Path, Dataset]]) -> SeriesOnDisk:
    headers = [header for _, header in members]
    images = [header for header in headers if _number(header, "Rows")]
    kinds = [[str(value) for value in header.get("ImageType") or ()] for header in images]
    first = images[0] if images else headers[0]
    return SeriesOnDisk(
        uid=uid,
        modality=str(first.get("Modality") or ""),
        body_part=str(first.get("BodyPartExamined") or ""),
        files=tuple(path for path, _ in members),
        images=sum(max(1, _number(header, "NumberOfFrames")) for header in images),
        rows=_number(first, "Rows"),
        columns=_number(first, "Columns"),
        is_localiser=bool(kinds) and all("LOCALIZER" in kind for kind in kinds),
        is_derived=bool(kinds) and all(kind[:1] == ["DERIVED"] for kind in kinds),
    )


def _number(header: Dataset, name: str) -> int:
    try:
        return int(header.get(name) or 0)
    except (TypeError, ValueError):
        return 0
