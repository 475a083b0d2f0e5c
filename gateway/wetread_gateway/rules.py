"""Which rule an instance falls under, and why; nothing of a rule is ever evaluated as code."""

from __future__ import annotations

import fnmatch
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex  # type: ignore[import-untyped] # it ships no types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.config.settings import Match, Rule, Settings
    from wetread_gateway.instance import Arrival, InstanceFacts

REGEX_TIMEOUT_S = 0.05
# What a key of `[rule.match]` looks at: the facts of the instance, or how it arrived.
OF_FACTS = ("modality", "body_part", "view", "study_description", "series_description")
OF_ARRIVAL = ("calling_ae", "called_ae")


@dataclass(frozen=True, slots=True)
class Decision:
    """The rule that counts, if any, and a line on each rule that was looked at.

    `reasons` quote descriptions, which may hold names: they are for `explain` alone, never for a log or a timeline.
    """

    rule: Rule | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule, held against an instance."""

    holds: bool
    says: str


def match(settings: Settings, facts: InstanceFacts, arrival: Arrival) -> Decision:
    """Give the first rule whose every condition holds."""
    reasons = []
    for rule in settings.rule:
        conditions = list(conditions_of(rule.match, facts, arrival))
        failed = [condition.says for condition in conditions if not condition.holds]
        if failed:
            reasons.append(f"rule {rule.name!r} does not match: {'; '.join(failed)}")
            continue
        met = "; ".join(condition.says for condition in conditions) or "it asks for nothing"
        reasons.append(f"rule {rule.name!r} matches: {met}")
        return Decision(rule, tuple(reasons))
    return Decision(None, (*reasons, "no rule matches: it is kept in `unmatched` and shown, not read"))


def pattern_complaint(pattern: str) -> str | None:
    """Say what is wrong with a regular expression, if anything."""
    try:
        regex.compile(pattern)
    except regex.error as error:
        return str(error)
    return None


def conditions_of(asked: Match, facts: InstanceFacts, arrival: Arrival) -> Iterator[Condition]:
    """Hold each condition that `asked` makes against the instance."""
    for source, names in ((facts, OF_FACTS), (arrival, OF_ARRIVAL)):
        for name in names:
            value: str = getattr(source, name)
            globs: tuple[str, ...] = getattr(asked, name)
            if globs:
                yield _glob(name, value, globs)
            pattern: str = getattr(asked, f"{name}_regex", "")
            if pattern:
                yield _search(name, value, pattern)


def _glob(name: str, value: str, globs: tuple[str, ...]) -> Condition:
    """Hold a value against globs: upper and lower case are one, as DICOM's code strings know no lower case."""
    for glob in globs:
        if fnmatch.fnmatchcase(value.strip().upper(), glob.upper()):
            return Condition(True, f"{name} {_shown(value)} is like {glob!r}")
    return Condition(False, f"{name} {_shown(value)} is like none of {', '.join(map(repr, globs))}")


def _search(name: str, value: str, pattern: str) -> Condition:
    """Look for a regular expression in a value, for a limited time: a pattern can take for ever on a chosen text."""
    try:
        found = _compiled(pattern).search(value, timeout=REGEX_TIMEOUT_S)
    except TimeoutError:
        late = f"{name}_regex {pattern!r} took longer than {REGEX_TIMEOUT_S} s, which counts as no match"
        return Condition(False, late)
    verb = "is" if found else "is not"
    return Condition(found is not None, f"{name}_regex {pattern!r} {verb} found in {_shown(value)}")


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern)


def _shown(value: str) -> str:
    return repr(value) if value else "(empty)"
