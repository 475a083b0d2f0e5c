"""Checks that this machine and this Python can run the embedded server, and says what to do where they cannot."""

import ctypes.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from wetread_embedded.errors import PreflightError
from wetread_embedded.runtime import Runtime
from wetread_embedded.shared_memory import SHM

GLIBC = (2, 35)  # what the wheel's libgssapi and others were linked against; the server itself wants 2.34
PYTHONS = ((3, 11), (3, 12))
SHM_BYTES = 128 << 20
LIBRARY_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


@dataclass(frozen=True)
class Host:
    """What is checked, as a value, so that each message can be tested."""

    system: str
    machine: str
    glibc: tuple[int, int] | None
    """None where the C library is another one."""
    python: tuple[int, int]
    has_libpython: bool
    """Whether the shared library of this Python is found."""
    python3: Path
    """The interpreter whose site-packages the stub takes."""
    numpy: str | None
    shm_free_bytes: int

    @classmethod
    def here(cls) -> Self:
        """Look at this machine and this Python."""
        return cls(
            system=platform.system(),
            machine=platform.machine(),
            glibc=_glibc(),
            python=(sys.version_info.major, sys.version_info.minor),
            has_libpython=_has_libpython(),
            python3=Path(sys.executable).parent / "python3",
            numpy=_version("numpy"),
            shm_free_bytes=shutil.disk_usage(SHM).free if SHM.is_dir() else 0,
        )


def problems(host: Host) -> list[str]:
    """Return what stands in the way, each with its remedy; empty where the server can run."""
    if (host.system, host.machine) != ("Linux", "x86_64"):
        return [f"the embedded server is built for Linux on x86-64, this is {host.system} on {host.machine}"]
    minor = f"{host.python[0]}.{host.python[1]}"
    found = []
    if host.glibc is None:
        found.append("the embedded server needs glibc 2.35 or newer, and this system's C library is another one")
    elif host.glibc < GLIBC:
        found.append(
            "the embedded server needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04), "
            f"this is {host.glibc[0]}.{host.glibc[1]}"
        )
    if host.python not in PYTHONS:
        found.append(f"Python 3.11 or 3.12 is needed, this is {minor}")
    elif not host.has_libpython:
        found.append(
            f"libpython{minor}.so.1.0 is missing, which the process that runs the models embeds: "
            f"install Debian's package libpython{minor} (apt-get install libpython{minor}), "
            "or use a Python that was built with --enable-shared"
        )
    if not host.python3.exists():
        found.append(f"{host.python3} is missing: the models find their packages through it; use a virtual environment")
    if host.numpy is None:
        found.append("numpy is not installed: pip install 'wetread[embedded]'")
    elif int(host.numpy.split(".")[0]) >= 2:
        found.append(
            f"numpy {host.numpy} is installed, with which this server answers wrong sizes, silently: "
            "pip install 'numpy<2'"
        )
    if host.shm_free_bytes < SHM_BYTES:
        found.append(
            f"{SHM} has {host.shm_free_bytes >> 20} MiB free, films in batches need {SHM_BYTES >> 20}: "
            "start the container with --shm-size=1g, or remove what other programs left there"
        )
    return found


def check() -> None:
    """Raise PreflightError with every problem, one a line, where the server cannot run here."""
    found = problems(Host.here())
    if not found:
        Runtime.find()
        return
    raise PreflightError("\n".join(found))


def _glibc() -> tuple[int, int] | None:
    try:
        name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):  # musl has no such name
        return None
    major, _, minor = number.partition(".")
    return (int(major), int(minor)) if name == "glibc" else None


def _has_libpython() -> bool:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    folders = [str(sysconfig.get_config_var("LIBDIR")), *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)]
    name = f"libpython{minor}.so.1.0"
    if any((Path(folder) / name).exists() for folder in (*folders, *LIBRARY_FOLDERS) if folder):
        return True
    return ctypes.util.find_library(f"python{minor}") is not None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
