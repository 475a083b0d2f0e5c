"""What a preprocessor and its decoding process say to each other: JSON lines over a socket, pixels in shared memory."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from wetread_preprocess.codecs import Job
from wetread_preprocess.errors import BY_NAME, ImageError
from wetread_preprocess.header import PixelFormat
from wetread_preprocess.samples import FloatImage

# The shrunk image comes back at the start of the shared memory, the frame goes out behind it.
FRAME_AT = 2**20


@dataclass(frozen=True)
class Request:
    """One job and how many bytes of frame lie at FRAME_AT."""

    job: Job
    frame_bytes: int
    capacity: int
    """Size of the shared memory, which may have grown since the last request."""

    def encode(self) -> bytes:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Request":
        """The reverse of `encode`."""
        document: dict[str, Any] = json.loads(line)
        job = document["job"]
        return cls(
            Job(
                transfer_syntax=job["transfer_syntax"],
                fmt=PixelFormat(**job["fmt"]),
                padding=None if job["padding"] is None else (job["padding"][0], job["padding"][1]),
                size=(job["size"][0], job["size"][1]),
                reduce_from=job["reduce_from"],
            ),
            document["frame_bytes"],
            document["capacity"],
        )


def answer(error: ImageError | None) -> bytes:
    """The decoding process's line: done, or why not."""
    told = {"error": type(error).__name__, "message": str(error)} if error else {}
    return json.dumps(told).encode() + b"\n"


def raise_answer(line: bytes) -> None:
    """Raise the error that the decoding process told, if any. The line is data: it may come from a broken codec.

    Raises:
        ImageError: as told.
    """
    told = json.loads(line)
    if name := told.get("error"):
        raise BY_NAME[name](str(told["message"]))


def shrunk_at(memory: memoryview, size: tuple[int, int]) -> FloatImage:
    """The [rows, columns] image at the start of the shared memory, as a view."""
    return np.frombuffer(memory, np.float32, size[0] * size[1]).reshape(size)
