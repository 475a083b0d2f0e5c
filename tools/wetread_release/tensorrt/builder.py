"""A plan for this machine's GPU: compiled, or taken from the cache where one of the same key lies."""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wetread_release.device import find_gpu
from wetread_release.digest import file_digest, joined_digest
from wetread_release.errors import BadModel
from wetread_release.tensorrt.compiler import Compiler
from wetread_release.tensorrt.graph import input_shapes, read_model
from wetread_release.tensorrt.jobs import Job, Options, whole_file
from wetread_release.tensorrt.plan import HEADER_BYTES, PlanHeader, read_header
from wetread_release.tensorrt.profiles import BATCH, AxisRange, InputProfile, profiles_of, ranges_of
from wetread_release.tensorrt.refusals import Refusal, joined
from wetread_release.tensorrt.remedies import explained
from wetread_release.tensorrt.rules import rule_refusals

NO_GPU = "nogpu"
_SHORT = 12  # hexadecimal digits of a hash in a file's name
_PLANS, _TIMINGS = "plans", "timings"


@dataclass(frozen=True)
class PlanSpec:
    """What is compiled, and for which shapes."""

    model: Path
    """FP32 as it is; FP16 with casts, INT8 with Q/DQ in the file: TensorRT is strongly typed."""
    batch: AxisRange = BATCH
    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    """Sizes of the other axes that may differ, by name."""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class PlanKey:
    """Where a plan fits: two builds of one key give plans that can stand for each other."""

    capability: str
    """`sm_90`; `nogpu` where none was there."""
    compiler: str
    tensorrt: str
    onnx: str
    """SHA-256 of the file and of the weights that it keeps outside."""
    built_for: str
    """SHA-256 of profiles and options."""

    @property
    def name(self) -> str:
        """Give the plan's name in a cache."""
        maker = self.compiler.lower().replace(" ", "")
        return f"{self.capability}-{maker}{self.tensorrt}-{self.onnx[:_SHORT]}-{self.built_for[:_SHORT]}"


@dataclass(frozen=True)
class Plan:
    """A plan, and what is known of it."""

    path: Path
    key: PlanKey
    header: PlanHeader
    plan_bytes: int
    sha256: str
    """Of the plan."""
    parse_s: float
    """Of the build that made it."""
    build_s: float
    batch: AxisRange
    reused: bool = False
    """It came from the cache."""
    log: tuple[str, ...] = ()
    """The compiler's warnings."""

    def require_servable(self) -> "Plan":
        """Give itself.

        Raises:
            BadModel: Triton's tensorrt backend does not read it.
        """
        if not self.header.servable:
            raise BadModel(
                f"this machine has {self.header.compiler}, whose plans Triton does not read (what it compiles proves "
                "the ONNX file only): build on the server's GPU with `wetread release build --engine tensorrt --here`"
            )
        return self


class Refused(BadModel):
    """TensorRT does not take the model; `refusals` say why, node by node."""

    def __init__(self, model: Path, refusals: tuple[Refusal, ...]) -> None:
        self.refusals = refusals
        super().__init__(f"TensorRT does not take {model}:\n" + "\n".join(f"  {refusal}" for refusal in refusals))


def build_plan(spec: PlanSpec, cache: Path, compiler: Compiler | None = None) -> Plan:
    """Compile a model for this machine, or take the plan of an earlier build.

    Args:
        spec: model and shapes.
        cache: folder of plans, timings and links; `libraries.default_cache()` in production.
        compiler: a running one, for several plans in a row; None: one is started for this.

    Raises:
        Refused: TensorRT does not take it.
        NoCompiler: there is no TensorRT here.
    """
    model = read_model(spec.model, weights=False)
    inputs = input_shapes(model)
    ranges, missing = ranges_of(inputs, spec.batch, spec.axes)
    if missing:
        raise Refused(spec.model, missing)
    profiles = profiles_of(inputs, ranges)
    with ExitStack() as stack:
        running = compiler or stack.enter_context(Compiler(cache))
        key = _key(spec, profiles, running)
        path = cache / _PLANS / f"{key.name}.plan"
        known = _known(path, key)
        if known is not None:
            return known
        compiled = running.run(_job(spec, profiles, path, key))
    refusals = explained(model, compiled)
    if refusals:
        raise Refused(spec.model, joined(rule_refusals(read_model(spec.model), spec.batch), refusals))
    header = read_header(bytes.fromhex(compiled.header), str(path))
    plan = Plan(
        path,
        key,
        header,
        compiled.plan_bytes,
        file_digest(path),
        compiled.parse_s,
        compiled.build_s,
        spec.batch,
        log=compiled.log,
    )
    with whole_file(_record(path)) as partial:
        partial.write_bytes(_ADAPTER.dump_json(plan, indent=1))
    return plan


def copy_plan(plan: Plan, target: Path) -> None:
    """Copy a plan out of the cache, whole or not at all."""
    with whole_file(target) as partial:
        shutil.copyfile(plan.path, partial)


def model_digest(path: Path) -> str:
    """SHA-256 of an ONNX file, together with the weights that it keeps outside."""
    import onnx  # noqa: PLC0415 - heavy
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data  # noqa: PLC0415

    model = onnx.load(path, load_external_data=False)
    outside = {ExternalDataInfo(each).location for each in model.graph.initializer if uses_external_data(each)}
    if not outside:
        return file_digest(path)
    return joined_digest({name: file_digest(path.parent / name) for name in sorted(outside)} | {"": file_digest(path)})


def _key(spec: PlanSpec, profiles: tuple[InputProfile, ...], compiler: Compiler) -> PlanKey:
    gpu = find_gpu()
    built_for = hashlib.sha256(f"{profiles}{spec.options}".encode()).hexdigest()
    capability = NO_GPU if gpu is None else gpu.name
    return PlanKey(capability, compiler.libraries.compiler, compiler.version, model_digest(spec.model), built_for)


def _job(spec: PlanSpec, profiles: tuple[InputProfile, ...], plan: Path, key: PlanKey) -> Job:
    """Ask for a plan; what kernels took is kept for one GPU and one version, which alone may use it."""
    plan.parent.mkdir(parents=True, exist_ok=True)
    timings = plan.parent.parent / _TIMINGS / f"{key.capability}-{key.tensorrt}.timings"
    timings.parent.mkdir(parents=True, exist_ok=True)
    return Job(str(spec.model), profiles, spec.options, str(plan), str(timings))


def _known(path: Path, key: PlanKey) -> Plan | None:
    """Give an earlier build's plan; None where there is none, or it is not what its record says."""
    try:
        plan = _ADAPTER.validate_json(_record(path).read_bytes())
        with path.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES), str(path))
        digest = file_digest(path)
    except (FileNotFoundError, ValidationError, BadModel):
        return None
    if (plan.key, plan.header, plan.sha256) != (key, header, digest):
        return None
    return replace(plan, path=path, reused=True)


def _record(plan: Path) -> Path:
    return plan.with_suffix(".json")


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)
