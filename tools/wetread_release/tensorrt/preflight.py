"""Ask whether TensorRT will take a model: our rules, NVIDIA's parser, then a real compile with the real shapes."""

from __future__ import annotations

import re
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_release.errors import BadModel
from wetread_release.tensorrt.compiler import Compiler
from wetread_release.tensorrt.graph import input_shapes, read_model
from wetread_release.tensorrt.jobs import Job
from wetread_release.tensorrt.libraries import NoCompiler
from wetread_release.tensorrt.plan import TENSORRT
from wetread_release.tensorrt.precision import Precision, in_precision, precision_of
from wetread_release.tensorrt.profiles import InputProfile, profiles_of, ranges_of
from wetread_release.tensorrt.refusals import Refusal, joined
from wetread_release.tensorrt.remedies import explained
from wetread_release.tensorrt.rules import rule_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from wetread_release.tensorrt.builder import PlanSpec
    from wetread_release.tensorrt.jobs import Compiled

_NO_SHAPE = "Field 'shape' of 'type' is required"
_CHECKED_NODE = re.compile(r"Name: (?P<name>\S+) OpType: (?P<operator>\w+)")

RULES_PROVE = (
    "Only our rules were asked (operators, types, axes, Q/DQ), which prove nothing and know the usual mistakes."
)
COMPILE_PROVES = (
    "NVIDIA's own parser took every node, and its compiler made an engine for all of these shapes and this precision."
)
NOT_PROVED = (
    "Not proved: speed on a GPU, accuracy (the answers: that is the gate's), and Triton's own plan, which is built on "
    "the server's GPU by its own TensorRT."
)
NOISE = "The INT8 form was calibrated on noise, to ask for its form alone: build with --calibration before the gate."


@dataclass(frozen=True)
class Report:
    """What was found."""

    model: Path
    precision: Precision
    refusals: tuple[Refusal, ...]
    asked: str = ""
    """`TensorRT 11.4.0.106 (libraries of TensorRT for RTX)`; empty: rules only."""
    compiled: Compiled | None = None
    profiles: tuple[InputProfile, ...] = ()
    remarks: tuple[str, ...] = ()
    """What this proves, what not, and why NVIDIA was not asked where it was not."""

    @property
    def passed(self) -> bool:
        """Nothing is in the way, as far as was asked."""
        return not self.refusals


def preflight(
    spec: PlanSpec,
    precision: Precision | None,
    cache: Path,
    *,
    rules_only: bool = False,
    compiler: Compiler | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Ask for one model.

    Args:
        spec: the file and its shapes.
        precision: to make of an FP32 file first; None: as it is.
        cache: folder for links to NVIDIA's libraries.
        rules_only: leave NVIDIA out.
        compiler: a running one; None: one is started.
        progress: told what is being done.

    Raises:
        BadModel: precision and file do not go together.
    """
    try:
        model = read_model(spec.model)
    except BadModel as error:
        remedy = "Copy or export it again; weights kept outside (*.data) must lie beside it."
        return Report(spec.model, precision or "fp32", (Refusal("file", "-", str(error), remedy),))
    with tempfile.TemporaryDirectory(prefix="wetread-preflight-") as work:
        noise = precision == "int8" and precision_of(model) != "int8"
        refusals = _without_nvidia(spec, model)
        if not refusals:
            progress(f"bringing it to {precision}" if precision else "reading it")
            path = in_precision(spec.model, precision, Path(work), spec.axes)
            model = model if path == spec.model else read_model(path)
            refusals = rule_refusals(model, spec.batch)
        else:
            path = spec.model
        found = precision_of(model)
        remarks = (NOISE,) if noise and path != spec.model else ()
        if rules_only:
            return Report(spec.model, found, refusals, remarks=(RULES_PROVE, NOT_PROVED, *remarks))
        try:
            with nullcontext(compiler) if compiler else Compiler(cache) as running:
                progress("NVIDIA's parser and compiler")
                return _asked(spec, path, model, refusals, running, remarks)
        except NoCompiler as error:
            return Report(spec.model, found, refusals, remarks=(str(error), RULES_PROVE, NOT_PROVED, *remarks))


def _without_nvidia(spec: PlanSpec, model: onnx.ModelProto) -> tuple[Refusal, ...]:
    """Give what ONNX's own checker, the rules and the shapes are against."""
    return (
        *_checker(spec.model),
        *rule_refusals(model, spec.batch),
        *ranges_of(input_shapes(model), spec.batch, spec.axes)[1],
    )


def _asked(
    spec: PlanSpec,
    path: Path,
    model: onnx.ModelProto,
    refusals: tuple[Refusal, ...],
    compiler: Compiler,
    remarks: tuple[str, ...],
) -> Report:
    """Let NVIDIA parse the file and compile it, whatever the rules have against it: the table shall be whole."""
    inputs = input_shapes(model)
    ranges, missing = ranges_of(inputs, spec.batch, spec.axes)
    profiles = () if missing else profiles_of(inputs, ranges)
    job = Job(str(path), profiles, spec.options)
    libraries = compiler.libraries.compiler
    asked = f"TensorRT {compiler.version}" + ("" if libraries == TENSORRT else f" (libraries of {libraries})")
    try:
        compiled = compiler.run(job)
    except BadModel as error:
        died = Refusal(
            "file", "-", str(error), "Report the file to NVIDIA, and simplify the model: onnxsim.", "compiler"
        )
        return Report(spec.model, precision_of(model), (*refusals, died), asked, remarks=(NOT_PROVED, *remarks))
    said = explained(model, compiled)
    if missing:  # what the compiler says of missing shapes is already said, by the axis' name
        said = tuple(refusal for refusal in said if refusal.by == "parser")
    found = joined(refusals, said)
    proved = (COMPILE_PROVES,) if not found else ()
    return Report(spec.model, precision_of(model), found, asked, compiled, profiles, (*proved, NOT_PROVED, *remarks))


def _checker(path: Path) -> tuple[Refusal, ...]:
    """Ask ONNX's own checker."""
    import onnx  # noqa: PLC0415 - heavy

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        text = str(error)
        if _NO_SHAPE in text:  # of an output: every runtime finds it itself
            return ()
        place = _CHECKED_NODE.search(text)
        name, operator = (place["name"], place["operator"]) if place else ("file", "-")
        why = f"it breaks ONNX's own rules: {text.splitlines()[0]}"
        return (Refusal(name, operator, why, "Export the model again, with opset_version=17."),)
    return ()
