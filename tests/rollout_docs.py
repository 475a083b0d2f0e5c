"""Rollouts for tests of those who follow them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_client.rollout import Rollout
from wetread_client.rollout.open import open_store

if TYPE_CHECKING:
    from pathlib import Path


def roll(folder: Path, pipeline: str = "chest_xray", **fields: object) -> Rollout:
    """Put the next revision of a pipeline's rollout in force: release 3 is stable, and what `fields` say."""
    store = open_store(str(folder))
    before = store.read(pipeline) or Rollout(pipeline, revision=0, stable=3, highest=9, salt="salt")
    following = replace(before, revision=before.revision + 1, **fields)
    store.write(following)
    return following
