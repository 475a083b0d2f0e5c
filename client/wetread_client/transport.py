"""What a transport carries: the bytes of a film or a series to a pipeline, its output tensors back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12

DICOM = "DICOM"  # the input's name, one file's bytes as UINT8 [1, n], or those of a series' files end to end
LENGTHS = "LENGTHS"  # of a series, and only there: the bytes of each of its files as INT64 [1, k]


class FilePayload:
    """A film in a file; read where it is needed, never held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def copy_into(self, target: memoryview) -> None:
        """Read the file into `target`, `size` bytes long, without a copy between; OSError when it got shorter."""
        with self._path.open("rb", buffering=0) as file:
            done = 0
            while done < self.size:
                read = file.readinto(target[done:])
                if not read:
                    raise OSError(f"{self._path} became shorter while it was read")
                done += read

    def view(self) -> memoryview:
        """Give the file's bytes."""
        buffer = np.empty(self.size, np.uint8).data  # a bytearray would be filled with zeros first
        self.copy_into(buffer)
        return buffer


class BufferPayload:
    """A film in memory; the caller's bytes are used as they are."""

    def __init__(self, film: Buffer) -> None:
        self._view = memoryview(film).cast("B")
        self.size = self._view.nbytes

    def copy_into(self, target: memoryview) -> None:
        """Copy the film into `target`, `size` bytes long, with the interpreter lock released."""
        np.copyto(np.frombuffer(target, np.uint8, self.size), np.frombuffer(self._view, np.uint8))

    def view(self) -> memoryview:
        """Give the film's bytes."""
        return self._view


class SeriesPayload:
    """The files of a series end to end, each read straight into its place."""

    def __init__(self, files: Sequence[FilePayload | BufferPayload]) -> None:
        self._files = tuple(files)
        self.lengths = tuple(file.size for file in self._files)
        self.size = sum(self.lengths)

    def copy_into(self, target: memoryview) -> None:
        """Read all files into `target`, `size` bytes long; OSError when one got shorter."""
        place = 0
        for file in self._files:
            if file.size:  # an empty one is for the server to name
                file.copy_into(target[place : place + file.size])
            place += file.size

    def view(self) -> memoryview:
        """Give the files' bytes."""
        buffer = np.empty(self.size, np.uint8).data
        self.copy_into(buffer)
        return buffer


Payload = FilePayload | BufferPayload | SeriesPayload


@dataclass(frozen=True, slots=True)
class RegionSlice:
    """A film or a series that lies at the start of a registered shared-memory region."""

    region: str
    size: int


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One film or series for one pipeline; only `outputs` come back, `parameters` are those of the KServe request.

    `lengths`: of a series, the bytes of each file; they travel as a tensor, wherever the files' bytes are.
    """

    model: str
    film: Payload | RegionSlice
    outputs: tuple[str, ...]
    parameters: tuple[tuple[str, bool | str], ...] = ()
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The answer's model version (of an ensemble: the release) and its tensors by name."""

    model_version: int
    outputs: Mapping[str, NDArray[np.generic]]


class Transport(Protocol):
    """A way to a server; safe to use from many threads at once.

    Every method raises a WetreadError (see `errors.translate`) and keeps to `timeout_s`, in seconds.
    """

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        """Send one film or series and wait for its answer."""
        ...

    def is_live(self, timeout_s: float) -> bool:
        """Say whether a server answers at all; False when nothing listens there."""
        ...

    def is_ready(self, model: str, timeout_s: float) -> bool:
        """Say whether the server serves `model` now."""
        ...

    def versions(self, model: str, timeout_s: float) -> tuple[int, ...]:
        """Give the versions of `model` that the server serves; of a pipeline these are releases."""
        ...

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        """Give the names of the outputs that `model` has, of this version or of the one that answers now."""
        ...

    def inputs(self, model: str, timeout_s: float) -> frozenset[str]:
        """Give the names of the inputs that `model` has; with LENGTHS it takes a series, else a film."""
        ...

    def close(self) -> None:
        """Let go of connections and shared memory; may be called twice."""
        ...


class ControlTransport(Transport, Protocol):
    """A transport that can also tell the server of shared-memory regions, and ask what a model says of itself."""

    def parameter(self, model: str, key: str, timeout_s: float) -> str | None:
        """Give a parameter of the model's configuration, None where it has none of that name."""
        ...

    def register_region(self, name: str, key: str, size: int, timeout_s: float) -> None:
        """Register the POSIX region `key` of `size` bytes under `name`."""
        ...

    def unregister_region(self, name: str, timeout_s: float) -> None:
        """Make the server forget the region; no error where it knows none."""
        ...
