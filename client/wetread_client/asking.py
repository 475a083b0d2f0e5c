"""Ask a pipeline for an answer together with the card of the release that gave it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.card import CardError, PipelineCard
from wetread_client.errors import NoSuchOutput, ServerError, Status, Unavailable
from wetread_client.transport import InferRequest, SeriesPayload

if TYPE_CHECKING:
    from wetread_client.retry import Clock
    from wetread_client.transport import InferAnswer, Payload, Transport

_TURNS = 5
"""Requests a try: releases may change between two of them, but hardly so often."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller wants of one reading.

    `always`: outputs that every pipeline of the kind has. `optional`: those wanted where a release offers them.
    """

    always: tuple[str, ...]
    optional: tuple[str, ...]
    parameters: tuple[tuple[str, bool | str], ...]

    @classmethod
    def of_film(cls, *, declared_film: bool, any_body_part: bool, heatmap: bool) -> Wishes:
        """What is wanted of a film."""
        optional = ("NOVELTY", "HEATMAP") if heatmap else ("NOVELTY",)
        chosen = (("declared_film", declared_film), ("any_body_part", any_body_part))
        parameters = tuple((name, True) for name, wanted in chosen if wanted)
        return cls(("PROBABILITY", "POSITIVE", "NOTES"), optional, parameters)

    @classmethod
    def of_series(cls, *, any_body_part: bool, segmentation: bool, heatmap: bool) -> Wishes:
        """What is wanted of a series; which outputs there are depends on the task."""
        chosen = (("SEGMENTATION", segmentation), ("NOVELTY", True), ("HEATMAP", heatmap))
        optional = ("PROBABILITY", "POSITIVE", *(name for name, wanted in chosen if wanted))
        return cls(("NOTES",), optional, (("any_body_part", True),) * any_body_part)

    def of(self, offered: frozenset[str]) -> tuple[str, ...]:
        """Choose of the outputs that a release offers."""
        return tuple(name for name in self.optional if name in offered)


@dataclass(frozen=True, slots=True)
class _Release:
    """What is known of a release that has answered."""

    card: PipelineCard
    offered: frozenset[str]


class Asking:
    """One pipeline's releases, as far as they have answered; safe to use from many threads."""

    def __init__(self, transport: Transport, pipeline: str, clock: Clock) -> None:
        self._transport = transport
        self._pipeline = pipeline
        self._clock = clock
        self._known: dict[int, _Release] = {}
        self._last: _Release | None = None
        self._lock = threading.Lock()

    def card(self, release: int) -> PipelineCard | None:
        """Give the card of a release that has answered, None for one that has not."""
        with self._lock:
            known = self._known.get(release)
        return None if known is None else known.card

    def ask(self, payload: Payload, wishes: Wishes, timeout_s: float) -> tuple[InferAnswer, PipelineCard]:
        """Get one answer and the card of the release that gave it.

        An answer of a release not met before is asked for again together with its card, and that second answer is
        used whole: between the two the release may have changed once more. Only outputs that are there are asked for.
        """
        deadline = self._clock.monotonic() + timeout_s
        known = self._last
        lengths = payload.lengths if isinstance(payload, SeriesPayload) else ()
        for _ in range(_TURNS):
            offered = self._offered(wishes, deadline) if known is None else known.offered
            self._must_have(wishes, offered)
            outputs = wishes.always + wishes.of(offered) + ("CARD",) * (known is None)
            request = InferRequest(self._pipeline, payload, outputs, wishes.parameters, lengths)
            try:
                answer = self._transport.infer(request, deadline - self._clock.monotonic())
            except NoSuchOutput:  # a release without it has taken over
                known = None
                continue
            if known is None:
                self._learn(answer, offered, wishes, deadline)
            with self._lock:
                known = self._known.get(answer.model_version)
                self._last = known or self._last
            if known is not None and set(wishes.of(known.offered)) <= answer.outputs.keys():
                return answer, known.card
        raise Unavailable(Status.ABORTED.value, f"{self._pipeline} changed its release under {_TURNS} requests")

    def _must_have(self, wishes: Wishes, offered: frozenset[str]) -> None:
        """Refuse a pipeline of another kind: asked again and again it would look like one that changes its releases."""
        if missing := [name for name in wishes.always if name not in offered]:
            message = f"{self._pipeline} gives no {' and no '.join(missing)}: it reads no films (takes_series tells)"
            raise ServerError(Status.INVALID_ARGUMENT.value, message)

    def _offered(self, wishes: Wishes, deadline: float, release: int | None = None) -> frozenset[str]:
        """Ask which outputs there are; of films, where the server will not say, take it that there are all."""
        try:
            return self._transport.outputs(self._pipeline, deadline - self._clock.monotonic(), release)
        except ServerError:
            if "PROBABILITY" not in wishes.always:  # nothing to go by: what a series' pipeline has depends on its task
                raise
            return frozenset((*wishes.always, *_FILM_OPTIONAL))

    def _learn(self, answer: InferAnswer, offered: frozenset[str], wishes: Wishes, deadline: float) -> None:
        """Keep the card that came with an answer, and which outputs its release has."""
        release = answer.model_version
        try:
            card = PipelineCard.parse(answer.outputs["CARD"].tobytes())
        except (CardError, KeyError) as error:
            raise ServerError(Status.INTERNAL.value, f"release {release}: {error}") from error
        if not offered.issuperset(_FILM_OPTIONAL):  # were they asked of this release, or of the one before it?
            offered = self._offered(wishes, deadline, release)
        with self._lock:
            self._known[release] = _Release(card, offered)


_FILM_OPTIONAL = ("NOVELTY", "HEATMAP")
