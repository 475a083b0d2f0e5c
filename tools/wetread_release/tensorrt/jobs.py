"""What the compiler's process is asked and answers, one JSON document a line, and how files pass between both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from wetread_release.tensorrt.profiles import InputProfile


@dataclass(frozen=True)
class Options:
    """What a plan is compiled for, beside its model and its shapes."""

    version_compatible: bool = False
    """Runs on later minor versions of its major one; needs NVIDIA's lean runtime in it."""
    hardware_compatible: bool = False
    """Runs on GPUs of Ampere and later, not only of the kind it is built on; slower."""
    workspace_mib: int = 0
    """Scratch memory of a kernel; 0: all that the GPU has."""


@dataclass(frozen=True)
class Job:
    """One model to be parsed, and compiled where the parser takes it."""

    model: str
    """Path of the ONNX file; data outside it lies beside it."""
    profiles: tuple[InputProfile, ...] = ()
    options: Options = field(default_factory=Options)
    plan: str = ""
    """Where the plan goes; empty: it is compiled and thrown away."""
    timings: str = ""
    """File that keeps what kernels took, so that the next compile need not measure again; empty: none."""


@dataclass(frozen=True)
class ParserError:
    """One refusal in NVIDIA's words."""

    node: int
    """Index in the graph; -1: an input, or not said."""
    name: str
    operator: str
    text: str
    function: str
    """Of the parser, as `importNonZero`: it tells the operator where the rest does not."""


@dataclass(frozen=True)
class Compiled:
    """The answer to a job."""

    tensorrt: str
    """Version of the Python API, whose numbers are TensorRT's."""
    parse_s: float
    errors: tuple[ParserError, ...] = ()
    """The parser's; none: it takes the model."""
    unknown_operators: tuple[str, ...] = ()
    """Operators of the model for which the parser has nothing at all."""
    log: tuple[str, ...] = ()
    """The compiler's errors and warnings."""
    plan_bytes: int = 0
    """0: no plan was made."""
    header: str = ""
    """The plan's first bytes, in hexadecimal."""
    build_s: float = 0.0


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` at the end; nothing stays of a failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


JOB = TypeAdapter(Job)
COMPILED: TypeAdapter[Compiled] = TypeAdapter(Compiled)
