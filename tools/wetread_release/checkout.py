"""Git's state as release 1: the pipelines that a checkout or an image ships, each described by its draft.json."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from wetread_embedded.slots import empty_slots

from wetread_release.draft import Draft, DraftPart, load_document
from wetread_release.errors import Absent
from wetread_release.wiring import NETWORKS

SHIPPED_RELEASE = 1
VERSION = "1"
"""Of every component that is shipped."""


@dataclass(frozen=True)
class Shipped:
    """A pipeline in `<root>/ensembles` and `<root>/model_repository`."""

    root: Path
    draft: Draft

    def folder(self, part: DraftPart) -> Path:
        """Give the folder of a part's files."""
        return self.root / "model_repository" / part.config.name / VERSION

    @property
    def card(self) -> Path:
        """Give where the model card lies."""
        network = next(part for part in self.draft.parts if part.role in NETWORKS)
        return self.root / "model_repository" / network.config.name / "CARD.md"

    def lay_out(self, folder: Path) -> Draft:
        """Copy the pipeline into `folder` as a draft like any other, and return it."""
        for part in self.draft.parts:
            copy = folder / "parts" / part.folder
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.folder(part), copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        if self.card.is_file():
            shutil.copyfile(self.card, folder / "CARD.md")
        self.draft.save(folder)
        return Draft.load(folder)


def shipped(root: Path) -> tuple[Shipped, ...]:
    """Return the pipelines that `root` ships whole, with a draft.json, in order; others are served as they are.

    One whose model slot is empty is a `template` alone.

    Raises:
        BadDraft: a draft.json cannot be read.
    """
    empty = {slot.pipeline for slot in empty_slots(root)}
    return tuple(each for each in templates(root) if each.draft.pipeline not in empty)


def templates(root: Path) -> tuple[Shipped, ...]:
    """Return every pipeline that `root` has a draft.json of, in order, those with an empty model slot too.

    Raises:
        BadDraft: a draft.json cannot be read.
    """
    found = sorted((root / "ensembles").glob("*/draft.json"))
    return tuple(Shipped(root, load_document(path)) for path in found)


def shipped_pipeline(root: Path, pipeline: str) -> Shipped:
    """Return one shipped pipeline; Absent when there is none of that name, or its model slot is empty."""
    for each in shipped(root):
        if each.draft.pipeline == pipeline:
            return each
    for slot in empty_slots(root):
        if slot.pipeline == pipeline:
            raise Absent(f"{root} ships no model of {pipeline}: put the ONNX file at {slot.file}")
    raise Absent(f"{root} ships no pipeline {pipeline} (no ensembles/{pipeline}/draft.json)")
