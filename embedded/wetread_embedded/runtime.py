"""Where the wheel nvidia-pytriton keeps the server's parts."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Self

from wetread_embedded.errors import PreflightError

ONE_THREAD = (
    # Two instances a model already fill the cores; a second pool of threads in each only takes them from each other.
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
# glibc gives every block above its threshold back to the kernel when it is freed, and a film is made of such blocks.
# Fetching the pages anew cost 1.0-1.5 ms of CPU a film of 8 MB.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": 32 * 2**20,  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": 256 * 2**20,
    "MALLOC_TOP_PAD_": 4 * 2**20,
}


@dataclass(frozen=True)
class Runtime:
    """The files of one installed tritonserver."""

    server: Path
    """The program."""
    libraries: Path
    """Folder of the shared libraries that came with it."""
    python_backend: Path
    """libtriton_python.so."""
    python_utils: Path
    """triton_python_backend_utils.py."""
    stub: Path
    """triton_python_backend_stub of the running Python's minor version."""

    @classmethod
    def find(cls) -> Self:
        """Find the parts in site-packages.

        Raises:
            PreflightError: nvidia-pytriton is not installed, or lacks a part.
        """
        try:
            site = Path(str(distribution("nvidia-pytriton").locate_file("")))
        except PackageNotFoundError as error:
            msg = "nvidia-pytriton is not installed: pip install 'wetread[embedded]'"
            raise PreflightError(msg) from error
        server = site / "pytriton" / "tritonserver"
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        runtime = cls(
            server=server / "bin" / "tritonserver",
            libraries=site / "nvidia_pytriton.libs",
            python_backend=server / "backends" / "python" / "libtriton_python.so",
            python_utils=server / "backends" / "python" / "triton_python_backend_utils.py",
            stub=server / "python_backend_stubs" / minor / "triton_python_backend_stub",
        )
        for part in (runtime.server, runtime.libraries, runtime.python_backend, runtime.python_utils, runtime.stub):
            if not part.exists():
                remedy = "pip install --force-reinstall nvidia-pytriton==0.7.0"
                msg = f"nvidia-pytriton lacks {part.relative_to(site)}: {remedy}"
                raise PreflightError(msg)
        return runtime

    def environment(self) -> dict[str, str]:
        """Return the environment that the server and its stubs need."""
        environment = dict(os.environ)
        # The stub takes the site-packages of the first python3 on PATH and the libpython on LD_LIBRARY_PATH.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        libraries = [str(self.libraries), str(sysconfig.get_config_var("LIBDIR")), environment.get("LD_LIBRARY_PATH")]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in libraries if path)
        environment["PYTHONUNBUFFERED"] = "1"  # or a backend's words reach the log only when it ends
        for name in ONE_THREAD:
            environment.setdefault(name, "1")
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        for name, size in KEEP_FREED_MEMORY.items():
            environment.setdefault(name, str(size))
        return environment
