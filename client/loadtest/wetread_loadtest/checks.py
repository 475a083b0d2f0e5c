"""Whether an answer is what it should be; what is not raises Wrong with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Wrong(Exception):
    """An answer that is none."""


class Refused(Exception):
    """The door said no; its kind is the text."""


REFUSALS = {429: "429", 507: "507"}


def check_reading(reading: Mapping[str, Any] | None) -> None:
    """Of which release, and every probability between 0 and 1."""
    if not reading:
        raise Wrong("there is no reading")
    if int(reading["release"]) < 1:
        raise Wrong("the reading names no release")
    for finding in reading["findings"]:
        probability = finding["probability"]
        if probability is not None and not 0.0 <= float(probability) <= 1.0:
            raise Wrong(f"a probability of {probability}")


def check_read_answer(answer: Mapping[str, Any], study_uid: str, sop_uid: str) -> None:
    """Of `POST /v1/read` with one film: that film's reading."""
    if answer["study_uid"] != study_uid:
        raise Wrong("the answer is of another study")
    if answer["state"] != "read":
        raise Wrong("it was not read in time")
    works = answer["works"]
    if [work["instance_uids"] for work in works] != [[sop_uid]]:
        raise Wrong("the answer is of another instance")
    check_reading(works[0]["reading"])


def check_stow_answer(answer: Mapping[str, Any], sop_uid: str) -> None:
    """Of STOW-RS with one instance (PS3.18, 10.5.3): it is among the stored ones and none has failed."""
    stored = [one["00081155"]["Value"][0] for one in answer.get("00081199", {}).get("Value", [])]
    if stored != [sop_uid] or answer.get("00081198", {}).get("Value"):
        raise Wrong("the instance is not among the stored ones")


def outcome_of(study: Mapping[str, Any] | None, expected: int, *, is_read: bool) -> str:
    """Tell what became of an acknowledged study at the end: `ok`, `lost`, or `waiting` (it may come yet).

    `study`: the answer to `GET /v1/studies/UID`, None when nobody knows it. `is_read`: a pipeline reads it.
    """
    if study is None:
        return "lost"
    instances = study["instances"]
    if sum(instances.values()) < expected:
        return "lost"
    if instances.get("received"):
        return "waiting"
    if not is_read:
        return "ok"
    if any(work.get("reading") for work in study["works"]):
        return "ok"
    over = bool(study["works"]) and all(work["state"] == "dead" for work in study["works"])
    return "lost" if over else "waiting"
