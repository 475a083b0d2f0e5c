"""Which kind of device a server computes on: gate records are kept by it, and engines are chosen by it."""

from __future__ import annotations

import ctypes
import platform
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_TARGET = "cpu"
# What decides how fast a CPU is at INT8, and in which order its sums are taken; the best one names the CPU.
_CPU_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "sve", "asimddp")
_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
# enum CUdevice_attribute of cuda.h
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """The first GPU that the process may use."""

    capability: tuple[int, int]
    """Compute capability, (9, 0) for an H100."""

    @property
    def name(self) -> str:
        """Give the name that compilers use: sm_90."""
        return "sm_{}{}".format(*self.capability)


def this_device() -> str:
    """Name the device that engines of `this_target` run on here: `sm_90`, or the CPU as `cpu_device` names it."""
    gpu = _served_gpu()
    return cpu_device() if gpu is None else gpu.name


def this_target() -> str:
    """Name which parts of a release are for this machine: `sm_90-trt11` with a GPU and TensorRT, else `cpu`."""
    gpu = _served_gpu()
    return CPU_TARGET if gpu is None else f"{gpu.name}-trt{tensorrt_version()}"


def cpu_device(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name the CPU by the best of its vector units: `cpu-avx512_vnni`, `cpu-avx2`, or `cpu-<architecture>`.

    An embedded server computes on this one, whether there is a GPU or not.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    words = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    best = next((flag for flag in _CPU_FLAGS if flag in words), platform.machine())
    return f"cpu-{best}"


@cache
def find_gpu() -> Gpu | None:
    """Ask NVIDIA's driver for the first GPU; None without a driver or a GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, values = ctypes.c_int(), []
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        values.append(value.value)
    return Gpu((values[0], values[1]))


@cache
def tensorrt_version() -> int:
    """Give the major version of the installed TensorRT, 0 where there is none (its bindings alone are none)."""
    for package in _TENSORRT_PACKAGES:
        try:
            return int(version(package).split(".")[0])
        except (PackageNotFoundError, ValueError):
            continue
    library = find_library("nvinfer") or ""  # libnvinfer.so.11
    tail = library.rpartition(".so.")[2]
    return int(tail.split(".")[0]) if tail.split(".")[0].isdecimal() else 0


def _served_gpu() -> Gpu | None:
    gpu = find_gpu()
    return gpu if gpu is not None and tensorrt_version() else None
