"""The event loop: a shared worklist, STAT first, and pods that lease from it; compiled, for millions of works.

A pod is a reader before a Triton (`wetread_gateway.reading.reader`): `slots` works under way and one more for STAT,
leases as many ahead as it has slots, begins nothing else while a STAT work is read, and looks every `look_s` seconds
for work unless one has just ended. Its works share the pod's speed: with n under way each goes on at rate(n) / n
(processor sharing by the measured curve), a work's size is drawn from the spread measured with n under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_Function = TypeVar("_Function", bound=Callable[..., object])

ABSENT, SERVING, DRAINING = 0, 1, 2
ROUTINE, STAT = 0, 1
BINS = 2100
BIN_GROWTH, LEAST_S = 0.01, 1e-4
ARRIVED, COMPLETED, GIVEN_BACK, OVERFLOWED = 0, 1, 2, 3
_NEVER = math.inf
_LOG_GROWTH = math.log1p(BIN_GROWTH)


def compiled(function: _Function) -> _Function:
    """Compile at the first call; the machine code is kept beside the source."""
    return numba.njit(cache=True, error_model="numpy", _nrt=False, forceinline=True)(function)  # type: ignore[no-any-return]


class State(NamedTuple):
    """All of the simulation; first dimension of most: the pod."""

    now: Floats  # [1]
    queue: Floats  # [2, most]: moments of arrival, a ring for each priority
    head: Whole  # [2]
    length: Whole  # [2]
    phase: Whole  # [pods]
    under_way: Whole  # [pods]
    target: Floats  # [pods, slots + 1]: the pod's progress at which a work ends
    arrival: Floats  # [pods, slots + 1]
    is_stat: Whole  # [pods, slots + 1]
    progress: Floats  # [pods]: what each work under way has got so far
    updated: Floats  # [pods]
    ahead: Floats  # [pods, 2, 2 * slots + 2]: arrivals of leased works that are not begun
    ahead_length: Whole  # [pods, 2]
    next_end: Floats  # [pods]
    next_look: Floats  # [pods]
    completed: Whole  # [pods]
    level_s: Floats  # [pods, slots + 2]: seconds with so many works under way
    speed: Floats  # [slots + 2]: of each work, by works under way
    sizes: Floats  # [slots + 2, points]
    random: npt.NDArray[np.uint64]  # [1]
    histogram: Whole  # [2, BINS]
    counts: Whole  # [4]
    slots: int
    most_ahead: int
    look_s: float  # 0: an arrival wakes a pod


@compiled
def _uniform(random: npt.NDArray[np.uint64]) -> float:
    # splitmix64 (Steele, Lea, Flood 2014)
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    mixed = random[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return float(mixed >> np.uint64(11)) / 9007199254740992.0


@compiled
def push(state: State, kind: int, arrived: float) -> None:
    """Put a work at the end of its queue."""
    most = state.queue.shape[1]
    if state.length[kind] == most:
        state.counts[3] += 1
        return
    state.queue[kind, (state.head[kind] + state.length[kind]) % most] = arrived
    state.length[kind] += 1


@compiled
def push_front(state: State, kind: int, arrived: float) -> None:
    """Give a work back: it is the next of its queue."""
    most = state.queue.shape[1]
    state.head[kind] = (state.head[kind] + most - 1) % most
    state.queue[kind, state.head[kind]] = arrived
    state.length[kind] += 1
    state.counts[2] += 1


@compiled
def _lease(state: State, pod: int, kind: int, wanted: int) -> int:
    most = state.queue.shape[1]
    leased = 0
    while leased < wanted and state.length[kind] > 0:
        state.ahead[pod, kind, state.ahead_length[pod, kind]] = state.queue[kind, state.head[kind]]
        state.ahead_length[pod, kind] += 1
        state.head[kind] = (state.head[kind] + 1) % most
        state.length[kind] -= 1
        leased += 1
    return leased


@compiled
def _fetch(state: State, pod: int) -> int:
    """Lease what there is room for, as `Reader._fetch` does."""
    ahead = state.ahead_length[pod, 0] + state.ahead_length[pod, 1]
    common = min(state.under_way[pod], state.slots)
    if ahead <= state.most_ahead // 2:
        wanted = state.slots + state.most_ahead - common - ahead
        leased = _lease(state, pod, 1, wanted)
        return leased + _lease(state, pod, 0, wanted - leased)
    if state.under_way[pod] <= state.slots and state.ahead_length[pod, 1] == 0:
        return _lease(state, pod, 1, 1)
    return 0


@compiled
def _begin_one(state: State, pod: int, kind: int) -> None:
    slot = state.under_way[pod]
    arrived = state.ahead[pod, kind, 0]
    state.ahead_length[pod, kind] -= 1
    for at in range(state.ahead_length[pod, kind]):
        state.ahead[pod, kind, at] = state.ahead[pod, kind, at + 1]
    state.under_way[pod] = slot + 1
    place = _uniform(state.random) * (state.sizes.shape[1] - 1)
    left = int(place)
    low, high = state.sizes[slot + 1, left], state.sizes[slot + 1, left + 1]
    state.target[pod, slot] = state.progress[pod] + low + (place - left) * (high - low)
    state.arrival[pod, slot] = arrived
    state.is_stat[pod, slot] = kind


@compiled
def _begin(state: State, pod: int) -> int:
    """Begin what is ahead while slots are free, as `Reader._begin` and `Reader._may_begin` do."""
    begun = 0
    stat = 0
    for slot in range(state.under_way[pod]):
        stat += state.is_stat[pod, slot]
    while state.ahead_length[pod, 1] > 0 and state.under_way[pod] < state.slots + 1:
        _begin_one(state, pod, 1)
        stat += 1
        begun += 1
    while stat == 0 and state.ahead_length[pod, 0] > 0 and state.under_way[pod] < state.slots:
        _begin_one(state, pod, 0)
        begun += 1
    return begun


@compiled
def catch_up(state: State, pod: int, now: float) -> None:
    """Bring a pod's progress up to now."""
    passed = now - state.updated[pod]
    state.progress[pod] += passed * state.speed[state.under_way[pod]]
    state.level_s[pod, state.under_way[pod]] += passed
    state.updated[pod] = now


@compiled
def plan(state: State, pod: int, now: float) -> None:
    """Find out when the pod's next work ends."""
    count = state.under_way[pod]
    if count == 0:
        state.next_end[pod] = _NEVER
        return
    least = state.target[pod, 0]
    for slot in range(1, count):
        least = min(least, state.target[pod, slot])
    state.next_end[pod] = now + max(0.0, least - state.progress[pod]) / state.speed[count]


@compiled
def serve(state: State, pod: int, now: float) -> None:
    """Let a pod lease and begin until neither is possible."""
    catch_up(state, pod, now)
    while True:
        moved = 0
        if state.phase[pod] == 1:
            moved = _fetch(state, pod)
        if moved + _begin(state, pod) == 0:
            break
    state.next_look[pod] = now + state.look_s if state.look_s > 0.0 and state.phase[pod] == 1 else _NEVER
    plan(state, pod, now)


@compiled
def _end_work(state: State, pod: int, now: float) -> None:
    """End the work that is furthest, and count how long it waited and was read."""
    catch_up(state, pod, now)
    last = state.under_way[pod] - 1
    ended = 0
    for slot in range(1, last + 1):
        if state.target[pod, slot] < state.target[pod, ended]:
            ended = slot
    taken = max(now - state.arrival[pod, ended], LEAST_S)
    place = min(BINS - 1, int(math.log(taken / LEAST_S) / _LOG_GROWTH))
    state.histogram[state.is_stat[pod, ended], place] += 1
    state.target[pod, ended] = state.target[pod, last]
    state.arrival[pod, ended] = state.arrival[pod, last]
    state.is_stat[pod, ended] = state.is_stat[pod, last]
    state.under_way[pod] = last
    state.completed[pod] += 1
    state.counts[1] += 1
    if last == 0 and state.phase[pod] == 2:
        state.phase[pod] = 0
    serve(state, pod, now)


@compiled
def _wake(state: State, now: float) -> None:
    """Let the pod with the most room take what has just arrived."""
    chosen = -1
    for pod in range(state.phase.shape[0]):
        if state.phase[pod] == 1 and (chosen < 0 or state.under_way[pod] < state.under_way[chosen]):
            chosen = pod
    if chosen >= 0 and state.under_way[chosen] <= state.slots:
        serve(state, chosen, now)


@compiled
def advance(state: State, until: float, arrivals: Floats, kinds: npt.NDArray[np.int8]) -> None:
    """Run to `until`; `arrivals`: all moments from now to then, in order, `kinds`: their priorities."""
    at = 0
    pods = state.phase.shape[0]
    while True:
        pod = -1
        moment = arrivals[at] if at < arrivals.shape[0] else until
        for candidate in range(pods):
            due = min(state.next_end[candidate], state.next_look[candidate])
            if due < moment:
                pod, moment = candidate, due
        if pod >= 0:
            if state.next_end[pod] <= moment:
                _end_work(state, pod, moment)
            else:
                serve(state, pod, moment)
        elif at < arrivals.shape[0]:
            push(state, kinds[at], moment)
            state.counts[0] += 1
            at += 1
            if state.look_s == 0.0:
                _wake(state, moment)
        else:
            break
    for each in range(pods):
        catch_up(state, each, until)
    state.now[0] = until
