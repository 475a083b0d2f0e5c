"""From a model of series to a draft, after a pipeline that ships: its recipe, its rules, another model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_release.digest import file_digest
from wetread_release.draft import Draft
from wetread_release.errors import BadDraft
from wetread_release.new import onnx_file, series_documents, series_model, trial
from wetread_release.new.make import MODEL_FILE, Made, write_json
from wetread_release.new.wish import check_name, check_words
from wetread_release.triton_config import TensorConfig
from wetread_release.volume_pipeline import MASK, VOLUME, VolumeSpec, is_for_series, volume_draft
from wetread_release.wiring import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from wetread_release.checkout import Shipped
    from wetread_release.new.documents import Json
    from wetread_release.new.series_model import SeriesModel
    from wetread_release.new.wish import Wish
    from wetread_release.wiring import Network


@dataclass(frozen=True)
class Template:
    """A shipped pipeline of series, whose model slot may be empty."""

    name: str
    network: Network
    recipe: Json
    pipeline: Json

    @classmethod
    def of(cls, shipped: Shipped) -> Template:
        """Read its documents; BadDraft when it reads films."""
        draft = shipped.draft
        if not is_for_series(draft.wiring):
            raise BadDraft(f"{draft.pipeline} reads films; leave out --like, and the pipeline follows from the model")
        documents = [
            json.loads((shipped.folder(draft.part(role)) / name).read_text())
            for role, name in (("preprocess", "recipe.json"), ("postprocess", "pipeline.json"))
        ]
        network: Network = next(role for role in NETWORKS if any(part.role == role for part in draft.parts))
        return cls(draft.pipeline, network, *documents)

    @property
    def channels(self) -> int:
        """Of LOGITS of a segmenter: background and segments."""
        segments = self.pipeline.get("segments", [])
        assert isinstance(segments, list)
        return 1 + max((int(each["value"]) for each in segments), default=0)


def make_series(model: Path, wish: Wish, template: Template, folder: Path, build: Mapping[str, object]) -> Made:
    """Write the draft into `folder`, made new, whole or not at all; `build`: what build.json says beside the hashes.

    Raises:
        BadModel: the model is not one of this kind, or does not do what is said of it; with the remedy.
        BadDraft: the wish contradicts itself, the documents cannot be served, or `folder` is there.
    """
    check_name(wish)
    if wish.labels or template.network == "classifier":
        check_words(wish)
    if folder.exists():
        raise BadDraft(f"{folder} is there: remove it, or name another folder with --out")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        made = _write(model, wish, template, partial, build)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.replace(folder)
    return replace(made, folder=folder)


def _write(path: Path, wish: Wish, template: Template, folder: Path, build: Mapping[str, object]) -> Made:
    parts = {role: folder / "parts" / role for role in ("preprocess", template.network, "postprocess")}
    for each in parts.values():
        each.mkdir(parents=True)
    write_json(parts["preprocess"] / "recipe.json", series_documents.recipe(template.recipe, wish))
    rules = series_documents.pipeline(template.pipeline, wish, template.network, wish.scores)
    write_json(parts["postprocess"] / "pipeline.json", rules)
    if wish.novelty is not None:
        shutil.copyfile(wish.novelty, parts["postprocess"] / "novelty.npz")
    loaded = onnx_file.load(path)
    found = series_model.tensors_of(
        loaded.model, template.network, wish.tensors.scores, wish.tensors.features, len(wish.labels)
    )
    opened = onnx_file.OPEN not in (found.volume.shape[0],)
    model = trial.open_batch(loaded.model) if opened else loaded.model
    scores = series_model.run(model, found, _bucket(parts["preprocess"]))
    _check_channels(scores.shape[1], wish, template, found)
    if template.network == "classifier":
        trial.check_scores(scores, len(wish.labels), wish.scores or "logits")
    if opened or not loaded.is_one_file:
        (parts[template.network] / MODEL_FILE).write_bytes(model.SerializeToString())
    else:
        shutil.copyfile(path, parts[template.network] / MODEL_FILE)
    draft = volume_draft(wish.name, _spec(template.network, found, scores.shape[1], wish))
    _check_rules(parts["postprocess"], draft)
    draft.save(folder)
    (folder / "CARD.md").write_text(series_documents.card(wish, template.name, str(found.volume), str(found.logits)))
    digests = {"given": file_digest(path), "served": file_digest(parts[template.network] / MODEL_FILE)}
    write_json(folder / "build.json", {**build, "model": {"name": path.name, "sha256": digests}})
    return Made(Draft.load(folder), folder, tuple(_remarks(wish, template, found)))


def _bucket(preprocess: Path) -> tuple[int, int, int]:
    from wetread_models.volume_rules import bucket_of  # noqa: PLC0415 - heavy

    try:
        return bucket_of(preprocess)
    except ValueError as error:
        raise BadDraft(f"the recipe cannot be served: {error}") from error


def _check_rules(postprocess: Path, draft: Draft) -> None:
    from wetread_models.volume_rules import check_answers  # noqa: PLC0415 - heavy

    config = draft.part("postprocess").config
    try:
        check_answers(
            postprocess,
            {tensor.name: tensor.dims for tensor in config.inputs},
            {tensor.name for tensor in config.outputs},
        )
    except ValueError as error:
        raise BadDraft(f"the rules cannot be served: {error}") from error


def _check_channels(channels: int, wish: Wish, template: Template, found: SeriesModel) -> None:
    """Check that a segmenter has a channel for the background and for each segment, and no more."""
    if template.network != "segmenter":
        return
    wanted = len(wish.labels) or template.channels
    if channels != wanted:
        raise BadDraft(
            f"output {found.logits} has {channels} channels and {wanted} are labelled"
            f"{'' if wish.labels else f' ({template.name} has a background and {wanted - 1} segments)'}: name them all "
            "with --labels in their order, and with --background those that are no segment"
        )


def _spec(network: Network, found: SeriesModel, channels: int, wish: Wish) -> VolumeSpec:
    open_sides = (-1, -1, -1) if network == "segmenter" else ()
    features = found.features
    return VolumeSpec(
        network=network,
        volume=replace(VOLUME, name=found.volume.name),
        logits=TensorConfig(found.logits.name, "FP32", (channels, *open_sides)),
        mask=None if found.mask is None else replace(MASK, name=found.mask.name),
        features=None if features is None else TensorConfig(features.name, "FP32", features.shape[1:]),
        findings=len(wish.findings) if network == "classifier" else -1,
    )


def _remarks(wish: Wish, template: Template, found: SeriesModel) -> Iterator[str]:
    """Say what the maker has left open and a pipeline can do without."""
    without = [label for _, label in wish.findings if label not in wish.codes]
    if without:
        yield f"no codes for {', '.join(without)}: reports carry private ones; --codes gives SNOMED CT's"
    if template.network == "classifier" and not wish.thresholds:
        yield "every threshold is 0.5: choose them on series of your own (--threshold)"
    if template.network == "classifier" and wish.scores is None:
        yield "its scores are taken for logits; --scores says what else they are"
    if found.mask is None and template.network == "segmenter":
        yield "the model has no mask input: what lies outside every slice is background, whatever it says there"
