"""What a version folder's recipe reads, films or series, behind one entry: the Triton adapter knows no other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import InvalidDicom
from wetread_preprocess.film import FilmPreprocessor
from wetread_preprocess.gate import FilmOptions
from wetread_preprocess.header import Buffer

_VOLUME = "volume"
"""`kind` of `volumes.recipe`, which a server of films alone does not import."""

Tensors = dict[str, npt.NDArray[np.float32] | npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Request:
    """What one request brings."""

    dicom: Buffer
    """uint8 [n] or bytes: a film's file, or a series' files end to end."""
    lengths: Sequence[int] = ()
    """The bytes of each of a series' files."""
    parameters: Mapping[str, object] | None = None
    """Triton's request parameters, by name."""

    def says(self, name: str) -> bool:
        """Tell whether a parameter is set and true."""
        return bool((self.parameters or {}).get(name, False))


class Preprocessor(Protocol):
    """Reads requests by one recipe. Not thread-safe: one a process, closed at the end."""

    def start(self) -> None:
        """Get ready: the decoding process, compiled kernels."""
        ...

    def read(self, request: Request) -> Tensors:
        """Give the request's tensors by their names, without the batch; raises ImageError."""
        ...

    def close(self) -> None:
        """End the decoding process."""
        ...


def load_preprocessor(folder: Path) -> Preprocessor:
    """Give the preprocessor for the version folder that holds `recipe.json`; the recipe's `kind` decides.

    Raises:
        ValueError: the recipe cannot be used, by name.
    """
    kind = json.loads((folder / "recipe.json").read_text()).get("kind")
    return SeriesReader(folder) if kind == _VOLUME else FilmReader(folder)


class FilmReader:
    """DICOM to IMAGE and GEOMETRY."""

    def __init__(self, folder: Path) -> None:
        self._preprocessor = FilmPreprocessor.load(folder)
        self.start, self.close = self._preprocessor.start, self._preprocessor.close

    def read(self, request: Request) -> Tensors:
        """Give IMAGE and GEOMETRY of a film; raises as `FilmPreprocessor.read` does."""
        options = FilmOptions(request.says("declared_film"), request.says("any_body_part"))
        film = self._preprocessor.read(request.dicom, options)
        return {"IMAGE": film.image, "GEOMETRY": np.frombuffer(film.geometry, np.uint8)}


class SeriesReader:
    """DICOM and LENGTHS to VOLUME, MASK and GEOMETRY."""

    def __init__(self, folder: Path) -> None:
        from wetread_preprocess.volumes import VolumeOptions, VolumePreprocessor  # noqa: PLC0415 -- as `_VOLUME` says

        self._options = VolumeOptions
        self._preprocessor = VolumePreprocessor.load(folder)
        self.start, self.close = self._preprocessor.start, self._preprocessor.close

    def read(self, request: Request) -> Tensors:
        """Give VOLUME, MASK and GEOMETRY of a series; raises as `VolumePreprocessor.read` does."""
        files = split(request.dicom, request.lengths)
        volume = self._preprocessor.read(files, self._options(request.says("any_body_part")))
        return {
            "VOLUME": volume.values,
            "MASK": volume.mask,
            "GEOMETRY": np.frombuffer(volume.geometry, np.uint8),
        }


def split(dicom: Buffer, lengths: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """Cut files that lie end to end apart again, as views; `lengths`: the bytes of each.

    Raises:
        InvalidDicom: the lengths do not add up to the bytes there are, or one is no length.
    """
    whole = dicom if isinstance(dicom, np.ndarray) else np.frombuffer(dicom, np.uint8)
    counts = [int(length) for length in lengths]
    if not counts:
        raise InvalidDicom("LENGTHS is empty; it states the bytes of each file in DICOM")
    for place, count in enumerate(counts, 1):
        if count <= 0:
            raise InvalidDicom(f"LENGTHS states {count} bytes for file {place} of {len(counts)}")
    if sum(counts) != len(whole):
        raise InvalidDicom(
            f"LENGTHS adds up to {sum(counts)} bytes for {len(counts)} files, and DICOM holds {len(whole)}: send the "
            "bytes of each file, in the order in which the files lie in DICOM"
        )
    ends = np.cumsum(counts).tolist()
    return [whole[end - count : end] for end, count in zip(ends, counts, strict=True)]
