"""The shared memory between the server and its stubs, told apart by a prefix of its own for each server."""

import os
import re
import secrets
from pathlib import Path

SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_PREFIX = re.compile(r"wetread_\d+_[0-9a-f]{8}_")


def new_prefix() -> str:
    """Return a prefix that no other server uses."""
    return f"wetread_{os.getpid()}_{secrets.token_hex(4)}_"


def is_prefix(text: object) -> bool:
    """Tell whether something is one of `new_prefix`'s: an empty one would be everybody's."""
    return isinstance(text, str) and _PREFIX.fullmatch(text) is not None


def remove(prefix: str) -> list[str]:
    """Remove every region whose name begins with `prefix`, and return their names.

    Raises:
        ValueError: `prefix` is none of `new_prefix`'s; an empty one would remove everybody's.
    """
    if not is_prefix(prefix):
        msg = f"not a prefix of ours: {prefix!r}"
        raise ValueError(msg)
    removed = []
    for region in SHM.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
        removed.append(region.name)
    return removed
