"""`wetread model`: train the reference classifier, quantise it, evaluate any classifier."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wetread_models.artefacts import CLASSIFIER, POSTPROCESS
from wetread_models.data import DataError, as_image, data_folder, list_films, read_pictures, split_patients

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from wetread_models.evaluate import Evaluation
    from wetread_models.train import Step, Trainer

app = typer.Typer(
    help="Train the reference classifier, quantise it, or evaluate any classifier on labelled films.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(stderr=True)
_REPOSITORY = Path("model_repository")
_LOG_EVERY = 10

DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder with NORMAL and PNEUMONIA. Default: chest_xray in WETREAD_DATA.", show_default=False),
]


@app.command()
def train(
    data: DataOption = None,
    repository: Annotated[Path, typer.Option(help="Triton model repository to write into.")] = _REPOSITORY,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints and the log.")] = Path("build/train"),
    seed: Annotated[int, typer.Option(help="Seed of split, weights and augmentation.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs; each takes about two minutes on two cores.")] = 8,
    batch: Annotated[int, typer.Option(min=2, help="Films a step.")] = 32,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the work folder.")
    ] = False,
) -> None:
    """Fine-tune EfficientNet-Lite0 on chest films and write everything that ships.

    That is model.onnx, CARD.md, figures.json and synthetic_films.npz of the classifier, pipeline.json and novelty.npz
    of the postprocessing.
    """
    try:
        from wetread_models import finish as finishing  # noqa: PLC0415 -- `evaluate` does without torch
        from wetread_models.train import Trainer, TrainingOptions  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"wetread model train needs the package {error.name}: pip install 'wetread[models]'")
    folder = data or data_folder() / "chest_xray"
    try:
        split = split_patients(list_films(folder), seed)
        _say(f"{folder}: {len(split.train)} films to train on, {len(split.held_out)} held out")
        trainer = Trainer(split.train, TrainingOptions(seed=seed, epochs=epochs, batch=batch), work)
        if resume and not trainer.resume():
            _fail(f"{work / 'last.pt'} is missing: nothing to resume, leave --resume out")
        checkpoint = _run(trainer)
        figures = finishing.finish(checkpoint, split, finishing.Places(repository), folder.parent / "dicom", _say)
    except DataError as error:
        _fail(str(error))
    _say(f"AUC of held-out patients {figures.auc_held_out}; see {repository / CLASSIFIER / 'CARD.md'}")


def _run(trainer: Trainer) -> Path:
    trainer.work.mkdir(parents=True, exist_ok=True)
    with _bar("training") as progress, (trainer.work / "log.txt").open("a") as log:
        task = progress.add_task("training", total=None)

        def on_step(step: Step) -> None:
            progress.update(task, completed=step.done, total=step.total)
            if step.done % _LOG_EVERY == 0:
                line = f"step {step.done}/{step.total} loss {step.loss:.4f} left {step.seconds_left / 60:.1f} min"
                print(line, file=log, flush=True)

        return trainer.run(on_step, lambda epoch, path: progress.console.print(f"epoch {epoch}: {path}"))


@app.command()
def evaluate(
    data: DataOption = None,
    model: Annotated[Path, typer.Option(help="model.onnx, or the folder that holds it.")] = _REPOSITORY
    / CLASSIFIER
    / "1",
    card: Annotated[
        Path, typer.Option(help="Folder with pipeline.json and novelty.npz: threshold, temperature, novelty.")
    ] = _REPOSITORY / POSTPROCESS / "1",
    reference: Annotated[
        Path | None,
        typer.Option(help="Another model.onnx: print flips and the difference of the AUCs.", show_default=False),
    ] = None,
    test_split: Annotated[
        int | None,
        typer.Option(help="Only the patients that a training with this --seed kept for its test.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Read a folder of labelled films and print AUC with its interval, sensitivity, specificity and calibration.

    Any classifier will do that has the outputs LOGITS, ACTIVATION and FEATURES. Needs no torch.
    """
    try:
        from wetread_models import evaluate as evaluation  # noqa: PLC0415 -- onnxruntime only when it is used
    except ModuleNotFoundError as error:
        _fail(f"wetread model evaluate needs the package {error.name}: pip install 'wetread[preprocess,release]'")
    path = model / "model.onnx" if model.is_dir() else model
    rules = card if card.is_dir() else card.parent
    try:
        with _bar("reading") as progress:
            task = progress.add_task("reading", total=None)
            result = evaluation.evaluate(
                data or data_folder() / "chest_xray",
                path,
                rules,
                lambda done, total: progress.update(task, completed=done, total=total),
                reference=reference,
                test_split=test_split,
            )
    except DataError as error:
        _fail(str(error))
    if as_json:
        print(json.dumps({"model": str(path), **asdict(result)}))
    else:
        Console().print(_table(result))


@app.command("reference")
def write_reference(
    source: Annotated[str, typer.Option(help="Where the films are from, in words; it travels with the release.")],
    data: DataOption = None,
    model: Annotated[Path, typer.Option(help="model.onnx, or the folder that holds it.")] = _REPOSITORY
    / CLASSIFIER
    / "1",
    card: Annotated[Path, typer.Option(help="Folder with pipeline.json, which is changed.")] = _REPOSITORY
    / POSTPROCESS
    / "1",
    held_out: Annotated[
        int | None,
        typer.Option(help="Only the patients that a training with this --seed held out.", show_default=False),
    ] = None,
) -> None:
    """Write into pipeline.json how probability and NOVELTY lie on these films: what drift is measured from."""
    from wetread_models import reference  # noqa: PLC0415 -- onnxruntime only when it is used

    path = model / "model.onnx" if model.is_dir() else model
    try:
        with _bar("reading") as progress:
            task = progress.add_task("reading", total=None)
            told = reference.write_reference(
                data or data_folder() / "chest_xray",
                path,
                card,
                source,
                seed=held_out,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except DataError as error:
        _fail(str(error))
    print(json.dumps(told))


@app.command()
def quantise(
    model: Annotated[Path, typer.Argument(help="The FP32 model.onnx.", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="The file to write.", dir_okay=False)],
    *,
    precision: Annotated[Literal["int8", "fp16"], typer.Option(help="What it becomes.")] = "int8",
    data: DataOption = None,
    seed: Annotated[int, typer.Option(help="Of the training's split by patients, and of all that is drawn.")] = 0,
    films: Annotated[int, typer.Option(min=16, help="Training films to find the ranges of INT8 with.")] = 256,
    method: Annotated[
        Literal["percentile", "entropy", "minmax"], typer.Option(help="How a tensor's range is found.")
    ] = "percentile",
    float_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the network, where it is most sensitive, left in float.")
    ] = 0.2,
) -> None:
    """Make an INT8 or FP16 file that ONNX Runtime, OpenVINO and TensorRT take, of a film classifier with input IMAGE.

    INT8 is calibrated with films of training patients alone. Needs no torch. For a draft that can be gated and
    published: `wetread release build --precision`.
    """
    try:
        from wetread_models import quantise as quantising  # noqa: PLC0415 -- onnxruntime only when it is used
    except ModuleNotFoundError as error:
        _fail(f"wetread model quantise needs the package {error.name}: pip install 'wetread[release]'")
    try:
        if precision == "fp16":
            quantising.fp16(model, target)
            _say(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
            return
        images = _calibration_images(data or data_folder() / "chest_xray", seed, films)
        options = quantising.Int8Options(calibration=method, float_share=float_share, seed=seed)
        with _bar("quantising") as progress:
            task = progress.add_task("quantising", total=None)
            report = quantising.int8(
                model,
                target,
                {"IMAGE": images},
                options,
                lambda _what, done, total: progress.update(task, completed=done, total=total),
            )
    except (DataError, quantising.QuantiseError) as error:
        _fail(str(error))
    _say(
        f"{target}: {target.stat().st_size / 1e6:.1f} MB, {report.layers} layers in INT8, {len(report.kept_float)} in "
        f"float; LOGITS are off by {report.relative_error:.1%} of their spread"
    )


def _calibration_images(folder: Path, seed: int, count: int) -> npt.NDArray[np.float32]:
    import numpy as np  # noqa: PLC0415

    train = split_patients(list_films(folder), seed).train
    drawn = np.sort(np.random.default_rng(seed).permutation(len(train))[:count])
    return as_image(read_pictures([train[index] for index in drawn.tolist()]))


def _table(result: Evaluation) -> Table:
    table = Table("figure", "value", title=f"{result.label}: {result.films} films of {result.patients} patients")
    table.add_row("AUC (95 % interval over patients)", str(result.auc))
    table.add_row("sensitivity", f"{result.rates.sensitivity:.4f} ({result.rates.positives} films)")
    table.add_row("specificity", f"{result.rates.specificity:.4f} ({result.rates.negatives} films)")
    table.add_row("threshold, temperature", f"{result.threshold:.4f}, {result.temperature:.4f}")
    table.add_row("share with NOVELTY above 1", f"{result.novel:.1%}")
    table.add_row(
        "calibration error, Brier score", f"{result.calibration.expected:.4f}, {result.calibration.brier:.4f}"
    )
    if (compared := result.compared) is not None:
        table.add_section()
        table.add_row(
            "decided otherwise than by the reference", f"{len(compared.flips)} films, {compared.flip_share:.2%}"
        )
        table.add_row("mean |change of probability|", f"{compared.mean_change:.4f}")
        difference = compared.auc_difference
        table.add_row("AUC less the reference's", f"{difference.difference} (p = {difference.p:.3f})")
    return table


def _bar(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_console, transient=True)


def _say(message: str) -> None:
    _console.print(message, markup=False, highlight=False, soft_wrap=True)


def _fail(message: str) -> None:
    _say(f"wetread model: {message}")
    raise typer.Exit(2)
