"""What the benches of the gateway write down: one JSON document a bench, the same frame for all."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from wetread_bench.machine import Machine, commit, describe_machine, versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Programs that a figure depends on, and the words that make them tell their version.
_PROGRAMS = {"orthanc": ("Orthanc", "--version"), "dcmtk": ("storescu", "--version")}


@dataclass(frozen=True, slots=True)
class Document:
    """The document `build/bench/<name>.json`. `figures`: the numbers that a reader judges by."""

    name: str
    complete: bool
    """The whole bench ran at full length and without an error: only such results are published."""
    machine: Machine
    versions: Mapping[str, str]
    commit: str
    command: str
    inputs: Mapping[str, object]
    settings: Mapping[str, object]
    measurements: Mapping[str, object]
    remarks: tuple[str, ...]
    figures: Mapping[str, float]

    @classmethod
    def of(
        cls,
        checkout: Path,
        name: str,
        command: str,
        *,
        complete: bool,
        inputs: Mapping[str, object],
        settings: Mapping[str, object],
        measurements: Mapping[str, object],
        figures: Mapping[str, float],
        remarks: tuple[str, ...] = (),
    ) -> Self:
        """Add the machine, the versions and the commit to what was measured."""
        told = versions() | program_versions()
        return cls(
            name, complete, describe_machine(), told, commit(checkout), command,
            inputs, settings, measurements, remarks, figures,
        )  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write the document and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def program_versions() -> dict[str, str]:
    """Versions of the PACS and of DCMTK; absent programs are left out."""
    found = {}
    for name, (program, word) in _PROGRAMS.items():
        if shutil.which(program):
            told = subprocess.run([program, word], capture_output=True, text=True, check=False).stdout
            found[name] = told.split("\n", 1)[0].strip("$ \t").removeprefix("dcmtk: ")
    return found
