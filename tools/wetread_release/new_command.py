"""`wetread release new`: a whole pipeline out of an engineer's own ONNX model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from wetread_release.command_options import USAGE, StateDir, console, fail, say, told
from wetread_release.new.hints import Scores, Values
from wetread_release.new.wish import Code, TensorNames, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wetread_release.new.make import Made, Study
    from wetread_release.new.series import Template
    from wetread_release.new.wish import Question

_COMMAND = "new"


def new(
    name: Annotated[str, typer.Argument(help="The pipeline's name: lower-case letters, digits, underscores.")],
    model: Annotated[Path, typer.Argument(help="The ONNX file: one film or volume in, scores out, 32-bit floats.")],
    *,
    like: Annotated[
        str, typer.Option(help="The shipped pipeline of series to make it after: chest_ct, brain_mr. Default: NAME's.")
    ] = "",
    modality: Annotated[str, typer.Option(help="Modalities (0008,0060) that it reads: DX or DX,CR.")] = "",
    labels: Annotated[
        str, typer.Option(help="A label for each score or channel, in its order: normal,fracture,effusion.")
    ] = "",
    background: Annotated[str, typer.Option(help="Labels that are no finding: normal.")] = "",
    values: Annotated[
        str, typer.Option(help=f"What black and white are to the model: {', '.join(get_args(Values))}.")
    ] = "",
    scores: Annotated[str, typer.Option(help=f"What its scores are: {', '.join(get_args(Scores))}.")] = "",
    body_part: Annotated[str, typer.Option(help="Body Part Examined (0018,0015) of its films: KNEE.")] = "",
    views: Annotated[str, typer.Option(help="View Positions (0018,5101) it is meant for: AP,PA. Default: any.")] = "",
    ages: Annotated[str, typer.Option(help="Years of age it is meant for, FIRST-LAST.")] = "0-130",
    threshold: Annotated[str, typer.Option(help="On the probability: 0.4 for all, or fracture=0.4,effusion=0.6.")] = "",
    codes: Annotated[
        Path | None,
        typer.Option(help='JSON: {"fracture": [{"scheme": "SCT", "value": "...", "meaning": "..."}]}.'),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="JSON: keys of recipe.json that replace what would follow from the rest.")
    ] = None,
    size: Annotated[str, typer.Option(help="ROWSxCOLUMNS, where the file leaves it open.")] = "",
    scores_output: Annotated[str, typer.Option(help="The output with the scores, where several could be.")] = "",
    activation_output: Annotated[str, typer.Option(help="The output [batch, labels, h, w] to draw heatmaps of.")] = "",
    heatmap_scale: Annotated[float, typer.Option(help="The contribution that a heatmap shows as 255.")] = 0.0,
    features_output: Annotated[str, typer.Option(help="The output [batch, F] to tell unlike films by.")] = "",
    novelty: Annotated[Path | None, typer.Option(help="novelty.npz: statistics of known films' features.")] = None,
    novelty_99: Annotated[float, typer.Option(help="The distance that 99 % of known films do not reach.")] = 0.0,
    statement: Annotated[str, typer.Option(help="The intended use, in a sentence.")] = "",
    manufacturer: Annotated[str, typer.Option(help="Who made the model.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="The draft's folder. Default: drafts/NAME in the state folder.")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Make a whole pipeline out of an ONNX model: parts, wiring, recipe, pipeline.json and a card to fill in.

    Names, shapes, normalisation and the kind of scores are read from the file where it tells; what it does not tell is
    asked, or named as the missing option where nobody can answer. The model is run once. Outputs that it cannot feed
    (HEATMAP, NOVELTY) are left out of the pipeline. What comes out is a draft for `wetread release gate`.

    A model of series is made after a pipeline that ships (--like, or its own name): the recipe, the segments, codes and
    intended use are that pipeline's where no option says otherwise.
    """
    wish = Wish(
        name=name,
        labels=_split(labels),
        modalities=_split(modality),
        body_part=body_part.upper(),
        views=_split(views.upper()),
        age_years=_numbers("--ages", ages, "-"),
        background=_split(background),
        codes=_codes(codes),
        thresholds=_thresholds(threshold, _split(labels)),
        values=cast("Values | None", _choice("--values", values, get_args(Values))),
        scores=cast("Scores | None", _choice("--scores", scores, get_args(Scores))),
        size=_size(size) if size else None,
        recipe=_json("--recipe", recipe),
        tensors=TensorNames(scores_output, activation_output, features_output),
        heatmap_scale=heatmap_scale,
        novelty=novelty,
        novelty_99=novelty_99,
        statement=statement,
        manufacturer=manufacturer,
    )
    with told(_COMMAND):
        folder = out or _drafts(state_dir) / name
        template = _template(like or name, is_wanted=bool(like))
        if template is not None:
            from wetread_release.new.series import make_series  # noqa: PLC0415 - --help does without

            _report(make_series(model, wish, template, folder, _build_record()))
            return
        if missing := [option for option, said in (("--modality", modality), ("--labels", labels)) if not said]:
            fail(_COMMAND, f"missing {' and '.join(missing)}: a film's pipeline needs them", USAGE)
        _report(_make(model, wish, folder))


def _template(name: str, *, is_wanted: bool) -> Template | None:
    """Find the shipped pipeline of series of that name; None: there is none, which is a fault where it `is_wanted`."""
    from wetread_release.checkout import templates  # noqa: PLC0415 - --help does without
    from wetread_release.new.series import Template  # noqa: PLC0415
    from wetread_release.release_site import find_checkout  # noqa: PLC0415
    from wetread_release.volume_pipeline import is_for_series  # noqa: PLC0415

    root = find_checkout()
    found = {each.draft.pipeline: each for each in templates(root)} if root else {}
    if name in found and (is_wanted or is_for_series(found[name].draft.wiring)):
        return Template.of(found[name])
    if is_wanted:
        fail(_COMMAND, f"--like {name}: no pipeline of that name ships here; there are {', '.join(found)}", USAGE)
    return None


def _make(model: Path, wish: Wish, folder: Path) -> Made:
    from wetread_release.new.make import make, study  # noqa: PLC0415 - --help does without

    studied = study(model, wish)
    questions = studied.questions(wish)
    if questions and not _can_ask():
        lines = "\n".join(f"  {each.option}  {each.text}" for each in questions)
        fail(_COMMAND, f"the model does not tell, and nobody can be asked here:\n{lines}", USAGE)
    for question in questions:
        wish = _answered(wish, question)
    say(_what_is_served(studied, wish))
    return make(studied, wish, folder, _build_record())


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _answered(wish: Wish, question: Question) -> Wish:
    from rich.prompt import Prompt  # noqa: PLC0415 - only questions need it

    answer = Prompt.ask(question.text, console=console, choices=list(question.choices) or None)
    match question.option:
        case "--values":
            return replace(wish, values=cast("Values", answer))
        case "--scores":
            return replace(wish, scores=cast("Scores", answer))
        case "--size":
            return replace(wish, size=_size(answer))
        case _:
            return replace(wish, body_part=answer.strip().upper())


def _what_is_served(studied: Study, wish: Wish) -> str:
    image = studied.image
    values = wish.values or studied.values or "the recipe's values"
    shape = ", ".join("?" if side < 0 else str(side) for side in image.shape((image.rows, image.columns)))
    return (
        f"{studied.path.name}: {image.name} [{shape}] ({image.layout}), {values}; {studied.scores.name} "
        f"[{len(wish.labels)}], {wish.scores or studied.kind}"
    )


def _report(made: Made) -> None:
    for remark in made.remarks:
        say(f"note: {remark}")
    outputs = ", ".join(tensor.name for tensor in made.draft.wiring.outputs)
    say(f"{made.draft.pipeline} gives {outputs}. Fill in {made.folder / 'CARD.md'}, then:")
    if any(tensor.name == "LENGTHS" for tensor in made.draft.wiring.inputs):
        say(f"  wetread release publish {made.folder} --force 'no gate for series' --reason WHY")
    else:
        say(f"  wetread release gate {made.folder} --data FILMS")
    typer.echo(made.folder)


def _build_record() -> dict[str, object]:
    from importlib.metadata import version  # noqa: PLC0415

    tools = {package: version(package) for package in ("wetread", "onnx", "onnxruntime", "numpy")}
    return {"schema": 1, "command": ["wetread", *sys.argv[1:]], "made_by": "wetread release new", "tools": tools}


def _drafts(state_dir: Path | None) -> Path:
    from wetread_release.places import Places  # noqa: PLC0415
    from wetread_release.release_site import default_state, find_checkout  # noqa: PLC0415

    return Places(state_dir or default_state(find_checkout())).drafts


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _choice(option: str, text: str, choices: tuple[str, ...]) -> str | None:
    if text and text not in choices:
        fail(_COMMAND, f"{option} {text}: it is one of {', '.join(choices)}", USAGE)
    return text or None


def _numbers(option: str, text: str, separator: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.lower().split(separator))
    except ValueError:
        fail(_COMMAND, f"{option} {text}: two numbers with {separator} between them", USAGE)
    return first, second


def _size(text: str) -> tuple[int, int]:
    rows, columns = _numbers("--size", text, "x")
    return int(rows), int(columns)


def _thresholds(text: str, labels: tuple[str, ...]) -> dict[str, float]:
    try:
        if text and "=" not in text:
            return dict.fromkeys(labels, float(text))
        return {label: float(value) for label, value in (each.rsplit("=", 1) for each in _split(text))}
    except ValueError:
        fail(_COMMAND, f"--threshold {text}: a number, or label=number for each label", USAGE)


def _json(option: str, path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        fail(_COMMAND, f"{option} {path}: {error}", USAGE)
    if not isinstance(content, dict):
        fail(_COMMAND, f"{option} {path}: a JSON object is expected", USAGE)
    return content


def _codes(path: Path | None) -> Mapping[str, tuple[Code, ...]]:
    content = _json("--codes", path)
    try:
        return {
            label: tuple(Code(str(each["scheme"]), str(each["value"]), str(each["meaning"])) for each in codes)  # type: ignore[attr-defined]
            for label, codes in content.items()
        }
    except (KeyError, TypeError) as error:
        fail(_COMMAND, f"--codes {path}: every label has a list of scheme, value and meaning ({error!r})", USAGE)
