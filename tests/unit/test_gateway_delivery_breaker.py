from __future__ import annotations

import random

import pytest
from wetread_gateway.delivery.breaker import Backoff, Breaker, Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(Backoff(1.0, 8.0), failures=3, clock=clock, chance=random.Random(1))


def test_it_opens_after_failures_in_a_row_only(breaker: Breaker) -> None:
    for _ in range(2):
        assert not breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        assert not breaker.failed()
    assert breaker.circuit is Circuit.CLOSED
    assert breaker.failed()
    assert breaker.circuit is Circuit.OPEN
    assert not breaker.allows()


def test_what_cannot_be_reached_opens_it_at_once(breaker: Breaker) -> None:
    assert breaker.failed(unreachable=True)
    assert not breaker.allows()


def test_one_probe_is_allowed_when_the_time_is_over_and_it_decides(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(unreachable=True)
    clock.now += breaker.wait_s()
    assert breaker.allows()
    assert not breaker.allows()
    assert breaker.circuit is Circuit.HALF_OPEN
    assert not breaker.failed()  # it was open already: nothing new to tell
    assert not breaker.allows()
    clock.now += breaker.wait_s()
    assert breaker.allows()
    assert breaker.succeeded()
    assert breaker.circuit is Circuit.CLOSED
    assert breaker.allows()


def test_a_probe_that_found_nothing_to_try_gives_its_turn_back(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(unreachable=True)
    clock.now += breaker.wait_s()
    assert breaker.allows()
    breaker.not_tried()
    assert breaker.allows()


def test_the_waits_double_up_to_a_limit_and_are_spread(breaker: Breaker, clock: Clock) -> None:
    waits = []
    for _ in range(6):
        breaker.failed(unreachable=True)
        waits.append(breaker.wait_s())
        clock.now += waits[-1]
        assert breaker.allows()
    for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == len(waits)
    breaker.succeeded()
    breaker.failed(unreachable=True)
    assert breaker.wait_s() <= 1.0


def test_it_waits_as_long_as_the_peer_asks(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(unreachable=True, after_s=120.0)
    assert breaker.wait_s() == pytest.approx(120.0)
    clock.now += 121.0
    assert breaker.wait_s() == 0.0


def test_an_attempt_begun_before_it_opened_prolongs_nothing(breaker: Breaker) -> None:
    breaker.failed(unreachable=True)
    wait = breaker.wait_s()
    assert not breaker.failed(unreachable=True)
    assert breaker.wait_s() == wait
