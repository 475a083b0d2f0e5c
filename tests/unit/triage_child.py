"""Forks processes that run triage in FOLDER, so that a test may kill one in no time: a line in, its process id out."""

import os
import sys
from pathlib import Path

from triage_site import context_in
from wetread_gateway.triage import stage


def main() -> None:
    folder = Path(sys.argv[1])
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            stage.run(context_in(folder))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
