"""From a model and a wish to a draft: a folder that can be gated and published."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_release.digest import file_digest
from wetread_release.draft import Draft
from wetread_release.errors import BadDraft, BadModel
from wetread_release.film_pipeline import FilmSpec, film_draft
from wetread_release.new import documents, onnx_file, trial
from wetread_release.new.hints import scores_hint, values_hint
from wetread_release.new.wish import Question, check, open_questions
from wetread_release.triton_config import TensorConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx
    from wetread_models.film_rules import FilmInput

    from wetread_release.new.hints import Scores, Values
    from wetread_release.new.onnx_file import Image, Loaded, Tensor
    from wetread_release.new.wish import Wish

MODEL_FILE = "model.onnx"
_NOVELTY_FILE = "novelty.npz"


@dataclass(frozen=True)
class Study:
    """What an ONNX file tells, for a wish with so many labels."""

    path: Path
    loaded: Loaded
    image: Image
    scores: Tensor
    activation: Tensor | None
    features: Tensor | None
    values: Values | None
    """Which values black and white are; None: the file does not say."""
    kind: Scores | None
    """What the scores are; None: the file does not say."""

    def questions(self, wish: Wish) -> tuple[Question, ...]:
        """Give what neither the file nor the wish answers."""
        sized = onnx_file.OPEN not in (self.image.rows, self.image.columns)
        return tuple(open_questions(wish, self.values, self.kind, sized=sized))


@dataclass(frozen=True)
class Made:
    """A draft, and what its maker should know of it."""

    draft: Draft
    folder: Path
    remarks: tuple[str, ...]


def study(path: Path, wish: Wish) -> Study:
    """Read the file and find the wish's tensors in it.

    Raises:
        BadModel: no film pipeline can serve it; the message names the tensor and the remedy.
        BadDraft: the wish contradicts itself.
    """
    check(wish)
    loaded = onnx_file.load(path)
    model = loaded.model
    image = onnx_file.image_of(onnx_file.inputs(model))
    outputs, names = onnx_file.outputs(model), wish.tensors
    scores = onnx_file.scores_of(outputs, names.scores, len(wish.labels))
    return Study(
        path=path,
        loaded=loaded,
        image=image,
        scores=scores,
        activation=onnx_file.extra_of(outputs, names.activation, 4, "heatmaps, [batch, labels, h, w]"),
        features=onnx_file.extra_of(outputs, names.features, 2, "novelty, [batch, F]"),
        values=values_hint(model, image.name),
        kind=scores_hint(model, scores.name),
    )


def make(studied: Study, wish: Wish, folder: Path, build: Mapping[str, object]) -> Made:
    """Write the draft into `folder`, made new, whole or not at all; `build`: what build.json says beside the hashes.

    Raises:
        BadModel: the model does not do what is said of it.
        BadDraft: a question is open, the recipe cannot be served, or `folder` is there.
    """
    if missing := [each.option for each in studied.questions(wish)]:
        raise BadDraft(f"the model does not tell, and nobody said: {', '.join(missing)}")
    if folder.exists():
        raise BadDraft(f"{folder} is there: remove it, or name another folder with --out")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        made = _write(studied, wish, partial, build)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.replace(folder)
    return replace(made, folder=folder)


def _write(studied: Study, wish: Wish, folder: Path, build: Mapping[str, object]) -> Made:
    values = wish.values or studied.values or "levels"  # of no account where the recipe states mean and scale
    kind = wish.scores or studied.kind or "logits"
    rules = {role: folder / "parts" / role for role in ("preprocess", "classifier", "postprocess")}
    for each in rules.values():
        each.mkdir(parents=True)
    write_json(rules["preprocess"] / "recipe.json", documents.recipe(wish, studied.image, values))
    write_json(rules["postprocess"] / "pipeline.json", documents.pipeline(wish, kind))
    if wish.novelty is not None:
        shutil.copyfile(wish.novelty, rules["postprocess"] / _NOVELTY_FILE)
    model, shape, remarks = _tried(studied, wish, kind, rules["preprocess"])
    _check_reading(wish, rules["postprocess"], len(wish.labels))
    if model is studied.loaded.model and studied.loaded.is_one_file:
        shutil.copyfile(studied.path, rules["classifier"] / MODEL_FILE)
    else:
        (rules["classifier"] / MODEL_FILE).write_bytes(model.SerializeToString())
    draft = film_draft(wish.name, _spec(studied, wish, shape))
    draft.save(folder)
    (folder / "CARD.md").write_text(documents.card(wish, studied.image, values, kind))
    files = {"given": file_digest(studied.path), "served": file_digest(rules["classifier"] / MODEL_FILE)}
    write_json(folder / "build.json", {**build, "model": {"name": studied.path.name, "sha256": files}})
    return Made(Draft.load(folder), folder, remarks)


def _tried(
    studied: Study, wish: Wish, kind: Scores, preprocess: Path
) -> tuple[onnx.ModelProto, tuple[int, ...], tuple[str, ...]]:
    """Run the model on what the recipe makes; give it with an open batch, IMAGE's shape, and remarks."""
    image, film = studied.image, _film(studied, preprocess)
    size = film.shape[1:] if image.layout == "NCHW" else film.shape[:2]
    opened = image.batch != onnx_file.OPEN
    model = trial.open_batch(studied.loaded.model) if opened else studied.loaded.model
    outputs = trial.run(model, image, (size[0], size[1]), film.span)
    scores = outputs[studied.scores.name]
    trial.check_scores(scores, len(wish.labels), kind)
    if studied.activation is not None and outputs[studied.activation.name].shape[1] != len(wish.labels):
        raise BadModel(f"output {studied.activation} does not hold a map for each of {len(wish.labels)} labels")
    remarks = [f"it was made for a batch of {image.batch}; that axis was opened, and it batches"] if opened else []
    exclude = kind == "class_logits" or (kind == "probabilities" and trial.exclusive(scores))
    if exclude and not wish.background:
        remarks.append("its classes exclude each other and each is a finding; --background names those that are none")
    return model, film.shape, (*remarks, *_remarks(wish))


def _film(studied: Study, preprocess: Path) -> FilmInput:
    """Give what the recipe makes of a film, which the model must take."""
    from wetread_models.film_rules import film_input  # noqa: PLC0415 - heavy

    try:
        film = film_input(preprocess)
    except ValueError as error:
        raise BadDraft(f"the recipe cannot be served: {error}") from error
    image = studied.image
    wanted = image.shape((image.rows, image.columns))
    if any(fixed not in (onnx_file.OPEN, made) for fixed, made in zip(wanted, film.shape, strict=True)):
        raise BadDraft(
            f"the recipe makes films {list(film.shape)}, the model's input {image.name} takes {list(wanted)}: leave "
            "size, channels and layout out of the recipe, or export the model for it"
        )
    return film


def _remarks(wish: Wish) -> Iterator[str]:
    """Say what the maker has left open and a pipeline can do without."""
    without = [label for _, label in wish.findings if label not in wish.codes]
    if without:
        yield f"no codes for {', '.join(without)}: reports carry private ones; --codes gives SNOMED CT's"
    if not wish.thresholds:
        yield f"every threshold is {documents.DEFAULT_THRESHOLD}: choose them on films of your own (--threshold)"


def _check_reading(wish: Wish, postprocess: Path, labels: int) -> None:
    from wetread_models.film_rules import check_reading  # noqa: PLC0415 - heavy

    try:
        check_reading(postprocess, labels, heatmap=bool(wish.tensors.activation), novelty=bool(wish.tensors.features))
    except ValueError as error:
        raise BadDraft(f"the rules cannot be served: {error}") from error


def _spec(studied: Study, wish: Wish, shape: tuple[int, ...]) -> FilmSpec:
    def tensor(of: Tensor | None) -> TensorConfig | None:
        return None if of is None else TensorConfig(of.name, "FP32", of.shape[1:])

    return FilmSpec(
        image=TensorConfig(studied.image.name, "FP32", shape),
        logits=TensorConfig(studied.scores.name, "FP32", (len(wish.labels),)),
        findings=len(wish.findings),
        activation=tensor(studied.activation),
        features=tensor(studied.features),
    )


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a document for people, too, to read."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
