"""`python -m wetread_embedded.preflight`: prints ok, or what to do; for `make setup`."""

import sys

from wetread_embedded.errors import PreflightError
from wetread_embedded.requirements import check


def main() -> int:
    """Print `ok`, or what to do; return the exit code."""
    try:
        check()
    except PreflightError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    print("ok: the embedded server can run here")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
