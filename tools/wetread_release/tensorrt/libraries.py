"""Which TensorRT is installed: NVIDIA's own for GPUs, or for any CPU the parser and compiler of TensorRT for RTX.

The wheel of ONNX Runtime's plugin carries TensorRT for RTX; NVIDIA's Python API wants the same libraries under
TensorRT's names. So a folder of links stands between them, on LD_LIBRARY_PATH before Python starts. The API also wants
a plugin library, of which one function is called; a copy of the parser in which another function has that one's name
takes its place, so TensorRT's plugins are out of reach there and nothing else is.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wetread_release.errors import ReleaseError
from wetread_release.tensorrt.plan import RTX, TENSORRT

EXTRA = "pip install 'wetread[tensorrt]' (in a checkout: make setup-tensorrt)"
_RTX_WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
_RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
_BINDINGS = "tensorrt_bindings"
_ENGINE = "libtensorrt_rtx.so."
_PARSER = "libtensorrt_onnxparser_rtx.so."
_PLUGIN_SYMBOLS = "createNvOnnxParserRefitter_INTERNAL initLibNvInferPlugins\n"


class NoCompiler(ReleaseError):
    """TensorRT is not installed, or not whole; the message names the extra."""


@dataclass(frozen=True)
class Libraries:
    """An installed TensorRT."""

    compiler: str
    """`TensorRT` or `TensorRT for RTX`, as in a plan's header."""
    module: Literal["tensorrt", "tensorrt_bindings"]
    """What the child process imports."""
    path: Path | None = None
    """A folder for LD_LIBRARY_PATH; None: the module finds its libraries itself."""

    def environment(self) -> dict[str, str]:
        """Give the environment that a process needs to import the module."""
        environment = dict(os.environ)
        if self.path is not None:
            known = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = f"{self.path}{os.pathsep}{known}" if known else str(self.path)
        return environment


def find_libraries(cache: Path) -> Libraries:
    """Find TensorRT, the real one first; links that it needs are made below `cache`.

    Raises:
        NoCompiler: there is none.
    """
    real = importlib.util.find_spec("tensorrt")
    if real is not None and real.origin is not None:  # type stubs alone leave a folder without a module
        return Libraries(TENSORRT, "tensorrt")
    package = importlib.util.find_spec(_RTX_PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec(_BINDINGS) is None:
        raise NoCompiler(f"NVIDIA's compiler is not installed: {EXTRA}")
    return Libraries(RTX, "tensorrt_bindings", link_folder(Path(package.origin).parent, cache))


def link_folder(wheel: Path, cache: Path) -> Path:
    """Give the folder of links to the libraries in `wheel`, made once and in one rename.

    Raises:
        NoCompiler: libraries are missing, or patchelf is.
    """
    engine, parser = _library(wheel, _ENGINE), _library(wheel, _PARSER)
    major = importlib.metadata.version("tensorrt-cu13-bindings").split(".", 1)[0]
    content = f"{engine}\n{parser}\n{importlib.metadata.version(_RTX_WHEEL)}\n{major}\n"
    folder = cache / "libraries" / hashlib.sha256(content.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as work:
        links = Path(work) / "links"
        links.mkdir()
        for name, target in (
            (f"libnvinfer.so.{major}", engine),
            (engine.name, engine),
            (f"libnvonnxparser.so.{major}", parser),
        ):
            (links / name).symlink_to(target)
        _rename_symbols(parser, links / f"libnvinfer_plugin.so.{major}", Path(work) / "symbols")
        try:
            links.rename(folder)
        except OSError:  # another process was faster; its folder has the same content
            if not folder.is_dir():
                raise
    return folder


def default_cache() -> Path:
    """Give where links, plans and timings are kept unless told: XDG's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wetread" / "tensorrt"


def _library(wheel: Path, prefix: str) -> Path:
    found = sorted(path for path in wheel.iterdir() if path.name.startswith(prefix))
    if not found:
        raise NoCompiler(f"{wheel} has no {prefix}*: install the version that the extra names: {EXTRA}")
    return found[-1]


def _rename_symbols(library: Path, copy: Path, symbols: Path) -> None:
    symbols.write_text(_PLUGIN_SYMBOLS)
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if patchelf is None:
        raise NoCompiler(f"patchelf is missing, which makes NVIDIA's libraries fit its Python API: {EXTRA}")
    done = subprocess.run(
        [patchelf, "--rename-dynamic-symbols", str(symbols), "--output", str(copy), str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoCompiler(f"patchelf could not prepare {library.name}: {done.stderr.strip()}; it must be 0.17 or newer")
