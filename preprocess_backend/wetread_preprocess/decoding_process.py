"""The child that decodes compressed frames, so that a codec that crashes or swells takes no neighbour along."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from wetread_preprocess.codecs import decode
from wetread_preprocess.errors import ImageError, UnsupportedImage
from wetread_preprocess.samples import Shelf, shrink
from wetread_preprocess.wire import FRAME_AT, Request, answer, shrunk_at

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve requests until the parent closes the socket. Arguments: socket fd, memory fd, memory limit in bytes."""
    connection_fd, memory_fd, memory_limit, parent = (int(argument) for argument in sys.argv[1:5])
    _end_with(parent)
    _load_codecs()
    _limit_memory(memory_limit)
    connection = socket.socket(fileno=connection_fd)
    lines = connection.makefile("rb")
    connection.sendall(b"ready\n")
    shelf = Shelf()
    memory = mmap.mmap(memory_fd, FRAME_AT)
    for line in lines:
        request = Request.decode(line)
        if request.capacity != len(memory):
            memory.close()
            memory = mmap.mmap(memory_fd, request.capacity)
        connection.sendall(answer(_serve(request, memory, shelf)))


def _serve(request: Request, memory: mmap.mmap, shelf: Shelf) -> ImageError | None:
    with memoryview(memory) as view:
        frame = bytes(view[FRAME_AT : FRAME_AT + request.frame_bytes])
        try:
            image = shrink(decode(request.job, frame, shelf), request.job.size)
        except ImageError as error:
            return error
        except MemoryError:
            return UnsupportedImage("decoding needs more memory than a film may take")
        shrunk_at(view, request.job.size)[:] = image
    return None


def _end_with(parent: int) -> None:
    """Die with the parent, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        sys.exit(1)


def _load_codecs() -> None:
    """Everything a decode may import, before the memory limit takes its measure."""
    import cv2  # noqa: PLC0415
    import imagecodecs  # noqa: PLC0415
    import rle.utils  # noqa: F401, PLC0415
    from PIL import Jpeg2KImagePlugin  # noqa: F401, PLC0415

    cv2.setNumThreads(1)
    for codec in ("jpeg8_decode", "ljpeg_decode", "jpegsof3_decode", "jpegls_decode", "jpegxl_decode"):
        getattr(imagecodecs, codec)


def _limit_memory(limit: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    total = pages * resource.getpagesize() + limit
    resource.setrlimit(resource.RLIMIT_AS, (total, total))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
