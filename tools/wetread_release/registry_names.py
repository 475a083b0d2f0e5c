"""Names and numbers of releases in a registry, and the errors about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wetread_release.errors import Absent, BadDraft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wetread_release.registry import Registry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NUMBER = re.compile(r"[1-9][0-9]*")


def pipeline_names(found: Iterable[str]) -> list[str]:
    """Choose what can be a pipeline's name, in order."""
    return sorted(name for name in found if _NAME.fullmatch(name))


def release_numbers(found: Iterable[str]) -> list[int]:
    """Choose what is a release's number, in order."""
    return sorted(int(name) for name in found if _NUMBER.fullmatch(name))


def checked_name(pipeline: str) -> str:
    """Give a pipeline's name; BadDraft when it cannot be a folder's."""
    if not _NAME.fullmatch(pipeline):
        raise BadDraft(
            f"{pipeline!r} is no pipeline's name: letters, digits, `_`, `.` and `-`, a letter or digit first"
        )
    return pipeline


def checked_number(release: int) -> int:
    """Give a release's number; BadDraft when it is none."""
    if release < 1:
        raise BadDraft(f"{release} is no release number: they count from 1")
    return release


def absent(registry: Registry, pipeline: str, release: int) -> Absent:
    """Make the error of a release that is not there; it names those that are."""
    there = ", ".join(map(str, registry.releases(pipeline))) or "none"
    return Absent(f"there is no release {release} of {pipeline} in {registry.where} (there: {there})")


def taken(registry: Registry, pipeline: str, release: int) -> BadDraft:
    """Make the error of a number that is given already."""
    return BadDraft(f"{pipeline} release {release} is in {registry.where} already: what is published never changes")
