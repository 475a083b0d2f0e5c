from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wetread_gateway.delivery import statuses
from wetread_gateway.delivery.statuses import Remedy, Verdict
from wetread_gateway.errors import NotDelivered, Refused, TryAgain, Unreachable


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xA700, Verdict.AGAIN),
        (0xA7FF, Verdict.AGAIN),
        (0xA900, Verdict.REFUSED),
        (0xA9FF, Verdict.REFUSED),
        (0xB000, Verdict.WARNED),
        (0xB006, Verdict.WARNED),
        (0xB007, Verdict.WARNED),
        (0xB123, Verdict.WARNED),
        (0xC000, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0x0122, Verdict.REFUSED),
        (0x0124, Verdict.REFUSED),
        (0x0213, Verdict.AGAIN),
        (0x1234, Verdict.REFUSED),
    ],
)
def test_a_store_status_means_what_the_standard_says(status: int, verdict: Verdict) -> None:
    assert statuses.of_store(status).verdict is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.STORED),
        (202, Verdict.WARNED),
        (400, Verdict.REFUSED),
        (401, Verdict.UNREACHABLE),
        (404, Verdict.UNREACHABLE),
        (409, Verdict.REFUSED),
        (413, Verdict.REFUSED),
        (429, Verdict.UNREACHABLE),
        (500, Verdict.AGAIN),
        (503, Verdict.UNREACHABLE),
        (507, Verdict.UNREACHABLE),
    ],
)
def test_a_stow_status_means_what_the_standard_says(status: int, verdict: Verdict) -> None:
    assert statuses.of_stow(status).verdict is verdict


@given(st.integers(0, 0xFFFF))
def test_every_status_has_a_verdict_and_its_error_agrees(status: int) -> None:
    meaning = statuses.of_store(status)
    if meaning.verdict in (Verdict.STORED, Verdict.WARNED):
        return
    error: NotDelivered = statuses.error(meaning, status, "C-STORE")
    assert isinstance(error, Refused) == (meaning.verdict is Verdict.REFUSED)
    assert isinstance(error, TryAgain) == (meaning.verdict is Verdict.AGAIN)
    assert f"0x{status:04X}" in str(error)


def test_what_is_the_whole_sites_fault_says_when_to_come_back() -> None:
    error = statuses.error(statuses.of_stow(503), 503, "STOW-RS", 7.0)
    assert isinstance(error, Unreachable)
    assert (error.status, error.after_s) == (503, 7.0)


def test_a_failed_commitment_has_a_remedy_whatever_its_reason() -> None:
    found = {reason: statuses.of_commitment(reason)[0] for reason in (0x0112, 0x0119, 0x0122, 0x0213, 0x7777)}
    assert list(found.values()) == [Remedy.SEND, Remedy.GIVE_UP, Remedy.ASK_OTHERWISE, Remedy.ASK, Remedy.SEND]
