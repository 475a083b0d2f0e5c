"""The machine, the versions and the commit that a result was taken with."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
PACKAGES = (
    "imagecodecs", "numba", "numpy", "nvidia-pytriton", "onnxruntime", "opencv-python-headless", "openvino", "pillow",
    "pydicom", "pylibjpeg-rle", "pywavelets", "scikit-image", "scipy", "simpleitk", "flask", "torch", "tritonclient",
    "wetread",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What the figures depend on. `flags`: of FLAGS, those that the CPU has."""

    cpu: str
    flags: tuple[str, ...]
    cores: int
    memory_gib: float
    kernel: str


def cores() -> list[int]:
    """The cores that this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def describe_machine(proc: Path = Path("/proc")) -> Machine:
    """Describe this machine."""
    lines = (proc / "cpuinfo").read_text().splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    has = set(fields.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=fields.get("model name", platform.processor()),
        flags=tuple(flag for flag in FLAGS if flag in has),
        cores=len(cores()),
        memory_gib=round(memory / 2**30, 1),
        kernel=platform.release(),
    )


def versions() -> dict[str, str]:
    """Python's version and those of the packages that matter, by name; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str:
    """The commit of the checkout in `folder`, with `+changes` where files differ from it; `unknown` without Git."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
