"""Films that a client on this machine left in POSIX shared memory, read where they lie.

Triton hands a Python backend every input by two copies, through its own shared memory into the stub's heap: 1.3 ms of
CPU for a film of 8 MB, as much as the whole preprocessing. A request may instead name the region in its parameter
`film_region`; its DICOM input is then a single byte.
"""

import contextlib
import mmap
import os
import re
import stat
from collections import OrderedDict

from wetread_preprocess.errors import InvalidDicom, RegionNotFound

# The client's own names only: no other file of the machine can be read by naming it.
_REFERENCE = re.compile(r"(wetread_film_[0-9a-f]{16}):([1-9][0-9]{0,10})")
_FOLDER = "/dev/shm"  # noqa: S108 -- where Linux keeps POSIX shared memory (shm_overview(7))
_MOST_MAPPED = 64


class FilmRegions:
    """Maps the regions that requests name, and keeps them mapped while their owners keep them."""

    def __init__(self, folder: str = _FOLDER) -> None:
        self._folder = folder
        self._mapped: OrderedDict[str, _Mapped] = OrderedDict()

    def film(self, reference: str) -> memoryview:
        """The film that `reference` (`region:bytes`) names, a read-only view that is valid until the next call.

        Raises:
            RegionNotFound: there is no such region here; the client sends the film itself then.
            InvalidDicom: the reference is malformed, or states more bytes than the region holds.
        """
        parts = _REFERENCE.fullmatch(reference)
        if parts is None:
            raise InvalidDicom(
                "the request parameter film_region is not of the form wetread_film_<16 hex digits>:<bytes>"
            )
        name, size = parts[1], int(parts[2])
        mapped = self._mapped.get(name)
        if mapped is None:
            self._make_room()
            mapped = self._mapped[name] = _Mapped(f"{self._folder}/{name}")
        self._mapped.move_to_end(name)
        return mapped.first(size)

    def close(self) -> None:
        """Unmap all regions."""
        while self._mapped:
            self._mapped.popitem()[1].close()

    def _make_room(self) -> None:
        """Let go of regions whose owners have removed them, and of the one used longest ago where there are many."""
        for name in [name for name, mapped in self._mapped.items() if mapped.is_removed()]:
            self._mapped.pop(name).close()
        while len(self._mapped) >= _MOST_MAPPED:
            self._mapped.popitem(last=False)[1].close()


class _Mapped:
    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise RegionNotFound("the region of film_region cannot be opened on this machine") from error
        try:
            status = os.fstat(self._file)
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                raise RegionNotFound("what film_region names is no shared-memory region")
            self._map = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self._file)
            raise
        self._view = memoryview(self._map)

    def first(self, size: int) -> memoryview:
        # Its owner may have made it smaller since: reading beyond its end would kill this process.
        if size > min(len(self._view), os.fstat(self._file).st_size):
            raise InvalidDicom(f"film_region states {size} bytes and its region holds fewer")
        return self._view[:size]

    def is_removed(self) -> bool:
        return os.fstat(self._file).st_nlink == 0

    def close(self) -> None:
        os.close(self._file)
        # A view that a traceback still holds keeps the mapping until it goes itself.
        with contextlib.suppress(BufferError):
            self._view.release()
            self._map.close()
