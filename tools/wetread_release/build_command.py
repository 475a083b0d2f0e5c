"""`wetread release build`: the stable release with another network, or with an engine for this machine."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wetread_release.command_options import (
    USAGE,
    KeysFolder,
    RegistryUrl,
    RolloutsUrl,
    StateDir,
    console,
    fail,
    open_site,
    say,
    told,
)

if TYPE_CHECKING:
    from wetread_release.building.make import Built, Wish
    from wetread_release.building.timing import Timing

_COMMAND = "build"


def build(
    model: Annotated[
        Path | None,
        typer.Argument(help="The ONNX file. With --here: the stable release's own.", exists=True, dir_okay=False),
    ] = None,
    *,
    pipeline: Annotated[str, typer.Option(help="The pipeline whose network it becomes.")] = "chest_xray",
    engine: Annotated[Literal["onnxruntime", "tensorrt"], typer.Option(help="What runs it in Triton.")] = "onnxruntime",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="Default: as the file is.", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of films (DICOM, pictures) that INT8 finds its ranges with.", exists=True),
    ] = None,
    films: Annotated[int, typer.Option(min=16, help="Calibrate with so many of them.")] = 256,
    train_split: Annotated[
        int | None,
        typer.Option(
            help="Only films of the patients that a training with this --seed trained on.", show_default=False
        ),
    ] = None,
    method: Annotated[
        Literal["percentile", "entropy", "minmax"], typer.Option(help="How a tensor's range is found.")
    ] = "percentile",
    float_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the network, where it is most sensitive, left in float.")
    ] = 0.2,
    accelerators: Annotated[
        str,
        typer.Option(
            help="Execution accelerators of Triton's own backend, in order: tensorrt,cuda,openvino,cpu. Default: none.",
            show_default=False,
        ),
    ] = "",
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Add a TensorRT plan for this machine's kind of GPU to the stable release; without one: do nothing.",
        ),
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="A plan that later minor versions of its TensorRT run too."),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option("--hardware-compatible", help="A plan that other GPUs from Ampere on run too; slower."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="The draft's folder. Default: in the state folder.", show_default=False),
    ] = None,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
    keys: KeysFolder = None,
) -> None:
    """Make a draft of the pipeline's stable release with another network.

    The file is checked against the pipeline and run. INT8 is static quantisation with Q/DQ nodes that ONNX Runtime,
    OpenVINO and TensorRT take: calibrate with films of patients that the gate does not read. For ONNX Runtime both
    engines of the embedded server are measured on this machine and the faster one is written down. A TensorRT plan is
    built for this machine's GPU and TensorRT alone; servers of other kinds run the ONNX file of the same release.

    build.json in the draft says how to make it again. Then: wetread release gate DRAFT.
    """
    if here and engine == "onnxruntime" and model is None:
        engine = "tensorrt"
    if model is None and not here:
        fail(_COMMAND, "name the ONNX file (or --here, for an engine of the stable release)", USAGE)
    if precision == "int8" and calibration is None:
        fail(_COMMAND, "--precision int8 needs --calibration DIR: films to find its ranges with", USAGE)
    with told(_COMMAND):
        from wetread_models.quantise import Int8Options  # noqa: PLC0415 - --help does without

        from wetread_release.building.make import Wish  # noqa: PLC0415
        from wetread_release.tensorrt.jobs import Options  # noqa: PLC0415

        wish = Wish(
            pipeline=pipeline,
            model=model,
            engine=engine,
            precision=precision,
            calibration=calibration,
            films=films,
            train_split=train_split,
            accelerators=tuple(name.strip() for name in accelerators.split(",") if name.strip()),
            int8=Int8Options(calibration=method, float_share=float_share, seed=seed),
            plan=Options(version_compatible, hardware_compatible),
            command=("wetread", *sys.argv[1:]),
        )
        if here and engine == "tensorrt" and not _has_gpu():
            say("this machine has no GPU with TensorRT: it runs the ONNX file of the release, nothing is to be built")
            return
        _report(_built(wish, out, state_dir, registry, rollouts, keys))


def _has_gpu() -> bool:
    from wetread_release.device import CPU_TARGET, this_target  # noqa: PLC0415

    return this_target() != CPU_TARGET


def _built(
    wish: Wish, out: Path | None, state_dir: Path | None, registry: str, rollouts: str, keys: Path | None
) -> Built:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from wetread_release.building.make import build as make  # noqa: PLC0415
    from wetread_release.places import Places  # noqa: PLC0415
    from wetread_release.release_site import default_state, find_checkout  # noqa: PLC0415
    from wetread_release.tensorrt.libraries import default_cache  # noqa: PLC0415

    site = open_site(state_dir, registry, rollouts, keys)
    drafts = Places(state_dir or default_state(find_checkout())).drafts
    folder = out or drafts / f"{wish.pipeline}-{wish.engine}-{wish.precision or 'as-given'}"
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading the stable release", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total if total > 1 else None)

        return make(site, wish, folder, default_cache(), progress)


def _report(built: Built) -> None:
    record = built.record
    if record.quantised is not None:
        say(
            f"{record.quantised.layers} layers in INT8, {len(record.quantised.kept_float)} left in float; the first "
            f"output is off by {record.quantised.relative_error:.1%} of its spread"
        )
    if record.choice is not None and record.choice.engine:
        told_times = ", ".join(map(_time, record.choice.timings))
        gain = f", {record.choice.speedup:.2f} times the FP32 file's throughput" if record.choice.source else ""
        say(f"{told_times}: {record.choice.engine} it is{gain}")
    for remark in built.remarks:
        say(f"note: {remark}")
    say(f"then: wetread release gate {built.folder} --data FILMS")
    typer.echo(built.folder)


def _time(timing: Timing) -> str:
    if timing.error:
        return f"{timing.engine} does not run it"
    return f"{timing.engine} {timing.median_ms:.1f} ms for {timing.batch} films"
