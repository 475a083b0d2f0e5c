"""What a plan's first bytes say, its maker and version, so that a wrong one stops before the server.

A plan begins with a magic of four bytes; bytes 24-27 hold the version that wrote it: major, minor, patch, build.
"""

from dataclasses import dataclass
from pathlib import Path

from wetread_release.errors import BadModel

HEADER_BYTES = 28
TENSORRT = "TensorRT"
RTX = "TensorRT for RTX"
_MAGIC = {b"ftrt": TENSORRT, b"vtrt": RTX, b"vgrt": RTX}


@dataclass(frozen=True)
class PlanHeader:
    """Who wrote a plan."""

    compiler: str
    """`TensorRT`, whose plans Triton serves, or `TensorRT for RTX`, whose plans it does not."""
    version: tuple[int, int, int, int]

    @property
    def servable(self) -> bool:
        """Triton's tensorrt backend can read it."""
        return self.compiler == TENSORRT

    @property
    def version_text(self) -> str:
        """Give the version with dots."""
        return ".".join(map(str, self.version))


def read_header(content: bytes, where: str) -> PlanHeader:
    """Read a plan's first bytes.

    Raises:
        BadModel: it is no plan; the message names `where`.
    """
    compiler = _MAGIC.get(content[:4])
    if compiler is None or len(content) < HEADER_BYTES:
        raise BadModel(f"{where} is no TensorRT plan, or was cut off: build it again with `wetread release build`")
    major, minor, patch, build = content[24:28]
    return PlanHeader(compiler, (major, minor, patch, build))


def check_plan(path: Path, tensorrt: tuple[int, ...] | None = None, version_compatible: bool = False) -> PlanHeader:
    """Refuse a plan that the server would not load, before it sees it.

    Args:
        path: of the plan.
        tensorrt: the server's version, as many numbers as are known; None: only the kind of plan is checked.
        version_compatible: the plan was built to run on later minor versions of its major one, and the server was
            started with `--backend-config=tensorrt,version-compatible=true`.

    Raises:
        BadModel: it does not fit; the message says why and what to do.
    """
    with path.open("rb") as file:
        header = read_header(file.read(HEADER_BYTES), str(path))
    if not header.servable:
        raise BadModel(
            f"{path} is a plan of {header.compiler} {header.version_text}, which Triton's tensorrt backend does not "
            "read: build it on the server's GPU with `wetread release build --engine tensorrt --here`"
        )
    if tensorrt is None:
        return header
    same = header.version[: len(tensorrt)] == tuple(tensorrt[:4])
    later = version_compatible and header.version[:1] == tuple(tensorrt[:1]) and header.version <= tuple(tensorrt)
    if not same and not later:
        raise BadModel(
            f"{path} was built by TensorRT {header.version_text}, the server has {'.'.join(map(str, tensorrt))}: build "
            "it there with `wetread release build --engine tensorrt --here`"
        )
    return header
