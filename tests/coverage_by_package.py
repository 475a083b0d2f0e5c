"""Share of lines that tests ran, per package: `python tests/coverage_by_package.py DATA ...` reads coverage's files.

Lines of processes that the tests started count too; those of a process that was killed are not known.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage, CoverageData
from coverage.exceptions import DataError

ROOT = Path(__file__).parents[1]


def package(path: Path) -> str:
    """Return the package of a source file, empty for all that is none of ours."""
    return next((part for part in path.parts if part.startswith("wetread_")), "")


def executed(data_files: list[Path]) -> dict[str, set[int]]:
    """Return the lines that ran, by the path of the file from its package on: checkouts and copies count together."""
    found: dict[str, set[int]] = {}
    for file in data_files:
        data = CoverageData(str(file))
        try:
            data.read()
        except DataError:
            continue  # of a process that was killed before it had written anything
        for name in data.measured_files():
            if owner := package(Path(name)):
                key = name[name.index(f"/{owner}/") + 1 :]
                found.setdefault(key, set()).update(data.lines(name) or ())
    return found


def main(data_files: list[Path]) -> None:
    """Print a line a package: lines, lines that ran, percent."""
    ran = executed(data_files)
    lines, covered = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        analysis = Coverage(data_file=str(Path(scratch) / "none"), config_file=False)
        for path in sorted(ROOT.glob("*/wetread_*/**/*.py")):
            owner = package(path.relative_to(ROOT))
            _, statements, _, _ = analysis.analysis(str(path))
            key = str(path)[str(path).index(f"/{owner}/") + 1 :]
            lines[owner] += len(statements)
            covered[owner] += len(set(statements) & ran.get(key, set()))
    for owner in [*sorted(lines), ""]:
        total, part = (lines[owner], covered[owner]) if owner else (lines.total(), covered.total())
        print(f"{owner or 'all':<22}{total:>8}{part:>8}{part / total:>8.1%}")  # noqa: T201 -- a command


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
