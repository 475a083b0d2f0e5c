"""build.json: all that is needed to make the same draft again, and to know what it was made of."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import TypeAdapter
from wetread_models.quantise import Int8Report

from wetread_release.building.calibration import CalibrationData
from wetread_release.building.timing import Choice
from wetread_release.errors import BadDraft

SCHEMA = 1
FILE = "build.json"
_NOTE = "## This build"
_PACKAGES = (
    "wetread", "numpy", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-cu13", "tensorrt-cu13-bindings",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
)  # fmt: skip


@dataclass(frozen=True)
class BuildRecord:
    """The content of build.json."""

    command: tuple[str, ...]
    pipeline: str
    parent: int
    """The release whose other parts were taken."""
    engine: str
    precision: str
    device: str
    """That it was built on, as the gate names it."""
    target: str
    """The servers that take the new part; `any` for all."""
    model: dict[str, str]
    """`name` of the given file, SHA-256 as `given` and as `served`."""
    seed: int
    tools: dict[str, str]
    """Versions of packages."""
    seconds: dict[str, float]
    """Of each step."""
    calibration: CalibrationData | None = None
    quantised: Int8Report | None = None
    choice: Choice | None = None
    """The engines of the embedded server, measured."""
    accelerators: tuple[str, ...] = ()
    """Of Triton's own backend, in order."""
    plan: dict[str, str] | None = None
    """Of a TensorRT plan: its key, its compiler, and whether it came from the cache."""
    made_by: str = "wetread release build"
    schema: int = SCHEMA

    def save(self, folder: Path) -> None:
        """Write build.json into a draft."""
        (folder / FILE).write_bytes(_ADAPTER.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> "BuildRecord":
        """Read a draft's build.json; BadDraft when it is not one of a build."""
        try:
            return _ADAPTER.validate_json((folder / FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise BadDraft(f"{folder / FILE}: {error}") from error


def note_in_card(folder: Path, record: BuildRecord) -> None:
    """Say in a draft's CARD.md what was built; the figures above it may be those of another precision."""
    card = folder / "CARD.md"
    before = card.read_text().split(_NOTE)[0].rstrip() if card.is_file() else f"# {record.pipeline}"
    lines = [f"{record.precision.upper()} for {record.engine}, built from release {record.parent} by wetread."]
    if record.quantised is not None and record.calibration is not None:
        lines.append(
            f"{record.quantised.layers} layers compute in INT8, {len(record.quantised.kept_float)} in float; "
            f"calibrated with {record.calibration.films} films of {len(record.calibration.patients)} known patients."
        )
    lines.append("The figures of this file are those of its gate (gate/report.html), not the ones above.")
    card.write_text(f"{before}\n\n{_NOTE}\n\n" + "\n".join(lines) + "\n")


def tool_versions() -> dict[str, str]:
    """Give the versions of the packages that a build depends on; absent ones are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


_ADAPTER = TypeAdapter(BuildRecord)
