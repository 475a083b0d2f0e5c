"""The process that imports TensorRT: jobs as JSON lines on stdin, answers on stdout; `python -m ...child MODULE`."""

import os
import sys

from wetread_release.tensorrt.engine import Engines
from wetread_release.tensorrt.jobs import COMPILED, JOB


def main(module: str) -> None:
    """Work until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # NVIDIA's libraries print: only answers may go to stdout
    engines = Engines(module)
    answers.write(engines.version.encode() + b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(COMPILED.dump_json(engines.run(JOB.validate_json(line))) + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
