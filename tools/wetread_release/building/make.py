"""Build: the pipeline's stable release with another network, as a draft in a folder made new, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wetread_models.quantise import Int8Options, Int8Report, QuantiseError, fp16, int8

from wetread_release.building.accelerators import Accelerators, accelerated, accelerators
from wetread_release.building.calibration import FILMS, CalibrationData, read_calibration
from wetread_release.building.check import check_model
from wetread_release.building.network_config import onnx_config, with_engine
from wetread_release.building.parent import Parent, lay_out_parent
from wetread_release.building.record import BuildRecord, note_in_card, tool_versions
from wetread_release.building.timing import Choice, choose
from wetread_release.device import this_device, this_target
from wetread_release.digest import file_digest
from wetread_release.draft import ANY_TARGET, Draft, DraftPart, part_folder
from wetread_release.errors import BadDraft, BadModel
from wetread_release.new.onnx_file import inputs, load
from wetread_release.tensorrt.builder import Plan, PlanSpec, build_plan, copy_plan
from wetread_release.tensorrt.graph import read_model
from wetread_release.tensorrt.jobs import Options as PlanOptions
from wetread_release.tensorrt.plan_config import PLAN_FILE, plan_config
from wetread_release.tensorrt.precision import Precision, precision_of
from wetread_release.tensorrt.profiles import AxisRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread_release.release_site import Site
    from wetread_release.triton_config import ModelConfig

    Progress = Callable[[str, int, int], None]

Engine = Literal["onnxruntime", "tensorrt"]
MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Wish:
    """What is to be built."""

    pipeline: str
    model: Path | None
    """None: the stable release's own, for an engine of this machine."""
    engine: Engine = "onnxruntime"
    precision: Precision | None = None
    """None: as the file is."""
    calibration: Path | None = None
    films: int = FILMS
    train_split: int | None = None
    """Calibrate with the training patients of this split alone; None: with all films of the folder."""
    accelerators: tuple[str, ...] = ()
    int8: Int8Options = field(default_factory=Int8Options)
    plan: PlanOptions = field(default_factory=PlanOptions)
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A draft, and what its maker should know of it."""

    folder: Path
    draft: Draft
    record: BuildRecord
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Network:
    """The network's file in its precision."""

    given: Path
    served: Path
    precision: Precision
    calibration: CalibrationData | None = None
    report: Int8Report | None = None


class _Seconds(dict[str, float]):
    """How long each step took."""

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self[step] = round(time.monotonic() - started, 2)


def build(site: Site, wish: Wish, folder: Path, cache: Path, progress: Progress) -> Built:
    """Build a draft into `folder`.

    Args:
        site: where the pipeline's stable release is found.
        wish: what to build.
        folder: of the draft; it must not be there.
        cache: of TensorRT plans.
        progress: gets what is being done, and how far it is: done, all.

    Raises:
        BadModel: the file does not fit the pipeline, or its engine; naming the remedy.
        BadDraft: `folder` is there.
        Absent: the pipeline is not there, or the calibration films.
    """
    if folder.exists():
        raise BadDraft(f"{folder} is there: remove it, or name another folder with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        built = _build(site, wish, partial, cache, progress)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(built, folder=folder)


def _build(site: Site, wish: Wish, folder: Path, cache: Path, progress: Progress) -> Built:
    seconds, target, fast = _Seconds(), this_target(), accelerators(wish.accelerators)
    parent = lay_out_parent(site, wish.pipeline, folder)
    part = parent.network(target if wish.engine == "tensorrt" else ANY_TARGET)
    config = onnx_config(part.config)
    with tempfile.TemporaryDirectory(prefix="wetread-build-") as scratch:
        given = _given(wish, parent, folder, Path(scratch))
        progress("checking the model", 0, 1)
        check_model(given, config)
        network = _in_precision(wish, given, parent, folder, Path(scratch), seconds, progress)
        choice, plan = None, None
        if wish.engine == "onnxruntime":
            progress("measuring the engines", 0, 1)
            with seconds.of("measuring"):
                choice = choose(network.served, config, given if network.served != given else None)
            config = replace(accelerated(config, fast), parameters=with_engine(config.parameters, choice.engine))
            draft = _replaced(parent.draft, folder, DraftPart(part.role, config, part.role), network.served)
        else:
            progress("compiling the plan", 0, 1)
            with seconds.of("compiling"):
                plan = _plan(network.served, config, wish.plan, cache)
            draft = _with_plan(wish, parent.draft, folder, DraftPart(part.role, config, part.role), given, plan, target)
        record = _record(wish, parent, network, choice, plan, target, seconds)
    draft = replace(draft, engine=wish.engine, precision=network.precision)
    draft.save(folder)
    record.save(folder)
    note_in_card(folder, record)
    return Built(folder, Draft.load(folder), record, tuple(_remarks(record, wish, fast)))


def _given(wish: Wish, parent: Parent, folder: Path, scratch: Path) -> Path:
    """Give the file to build from, weights and all; a copy of the parent's, whose part may be replaced."""
    if wish.model is not None:
        loaded = load(wish.model)
        if loaded.is_one_file:
            return wish.model
        whole = scratch / wish.model.name
        whole.write_bytes(loaded.model.SerializeToString())
        return whole
    part = parent.network(ANY_TARGET)
    model = part_folder(folder, part) / (part.config.model_file or MODEL_FILE)
    if part.config.backend != "onnxruntime" or not model.is_file():
        raise BadModel(f"release {parent.release} of {wish.pipeline} has no {MODEL_FILE}: name the file to build from")
    return Path(shutil.copy2(model, scratch / "stable.onnx"))


def _in_precision(
    wish: Wish, given: Path, parent: Parent, folder: Path, scratch: Path, seconds: _Seconds, progress: Progress
) -> _Network:
    has = precision_of(read_model(given))
    if wish.precision in (None, has):
        return _Network(given, given, has)
    if has != "fp32":
        raise BadModel(f"{given} is {has} already and cannot be made {wish.precision}: give the FP32 file")
    made = scratch / MODEL_FILE
    try:
        if wish.precision == "fp16":
            with seconds.of("halving"):
                fp16(given, made)
            return _Network(given, made, "fp16")
        return _calibrated(wish, given, made, part_folder(folder, parent.draft.part("preprocess")), seconds, progress)
    except QuantiseError as error:
        raise BadModel(str(error)) from error


def _calibrated(wish: Wish, given: Path, made: Path, recipe: Path, seconds: _Seconds, progress: Progress) -> _Network:
    if wish.calibration is None:
        raise BadModel("INT8 wants films to find its ranges with: --calibration DIR, of patients that no gate reads")
    with seconds.of("reading films"):
        images, data = read_calibration(
            wish.calibration,
            recipe,
            wish.films,
            wish.int8.seed,
            wish.train_split,
            lambda done, total: progress("reading films", done, total),
        )
    (image, *others) = inputs(load(given).model)
    if others:
        raise BadModel(f"{given} has {len(others) + 1} inputs: films calibrate a network of one")
    with seconds.of("quantising"):
        report = int8(given, made, {image.name: images}, wish.int8, progress)
    return _Network(given, made, "int8", data, report)


def _replaced(draft: Draft, folder: Path, part: DraftPart, model: Path) -> Draft:
    """Put one network in the place of all that the draft has, for servers of any target."""
    kept = tuple(each for each in draft.parts if each.role != part.role)
    for each in draft.parts:
        if each.role == part.role:
            shutil.rmtree(part_folder(folder, each), ignore_errors=True)
    files = part_folder(folder, part)
    files.mkdir()
    shutil.copyfile(model, files / MODEL_FILE)
    return replace(draft, parts=(*kept, part))


def _plan(model: Path, config: ModelConfig, options: PlanOptions, cache: Path) -> Plan:
    largest = max(config.max_batch_size, 1)
    spec = PlanSpec(model, AxisRange(1, largest, largest), options=options)
    return build_plan(spec, cache).require_servable()


def _with_plan(wish: Wish, draft: Draft, folder: Path, part: DraftPart, given: Path, plan: Plan, target: str) -> Draft:
    """Add the plan for this machine's target; other servers run the given file, or what they ran."""
    if wish.model is not None:
        draft = _replaced(draft, folder, part, given)
    made = replace(part, config=plan_config(part.config, plan.batch), folder=f"{part.role}-{target}", target=target)
    files = part_folder(folder, made)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    copy_plan(plan, files / PLAN_FILE)
    others = (each for each in draft.parts if (each.role, each.target) != (made.role, made.target))
    return replace(draft, parts=(*others, made))


def _record(
    wish: Wish,
    parent: Parent,
    network: _Network,
    choice: Choice | None,
    plan: Plan | None,
    target: str,
    seconds: _Seconds,
) -> BuildRecord:
    return BuildRecord(
        command=wish.command,
        pipeline=wish.pipeline,
        parent=parent.release,
        engine=wish.engine,
        precision=network.precision,
        device=this_device(),
        target=target if plan else ANY_TARGET,
        model={
            "name": network.given.name,
            "given": file_digest(network.given),
            "served": file_digest(plan.path if plan else network.served),
        },
        seed=wish.int8.seed,
        tools=tool_versions(),
        seconds=dict(seconds),
        calibration=network.calibration,
        quantised=network.report,
        choice=choice,
        accelerators=wish.accelerators,
        plan={"name": plan.key.name, "compiler": plan.key.compiler, "tensorrt": plan.key.tensorrt} if plan else None,
    )


def _remarks(record: BuildRecord, wish: Wish, fast: Accelerators) -> Iterator[str]:
    if fast.lacking:
        yield (
            f"the ONNX Runtime here has no {', '.join(fast.lacking)}: not tried; a Triton that lacks one does not load "
            "the release, it must be in the server's image"
        )
    if record.choice is not None and not record.choice.engine:
        yield "the embedded server's engines are not installed here: none was measured, it chooses itself"
    if record.choice is not None and 0 < record.choice.speedup < 1:
        yield (
            f"on this machine the FP32 file is faster ({record.choice.speedup:.2f} of its throughput): "
            f"{record.precision} is then for servers with another device"
        )
    if record.precision == "int8" and record.engine == "onnxruntime" and "openvino" not in record.accelerators:
        yield (
            "Triton's own ONNX Runtime runs INT8 slower than FP32 on a CPU unless OpenVINO does it: "
            "--accelerators openvino"
        )
    if record.plan is not None and wish.plan.version_compatible:
        yield "start Triton with --backend-config=tensorrt,version-compatible=true, or it refuses the plan"
