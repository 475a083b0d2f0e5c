"""Write both statements: `python -m wetread_gateway.conformance docs/`."""

from __future__ import annotations

import sys
from pathlib import Path

from wetread_gateway.conformance.ihe import integration_statement
from wetread_gateway.conformance.statement import conformance_statement

STATEMENTS = {
    "conformance-statement.md": conformance_statement,
    "ihe-integration-statement.md": integration_statement,
}


def main(folder: Path) -> None:
    """Write them into `folder`."""
    for name, made in STATEMENTS.items():
        (folder / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
