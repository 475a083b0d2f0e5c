"""The simulated worklist and its pods, as an object: what happens to pods between two moments, and what is counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wetread_bench.autoscale import queue
from wetread_bench.autoscale.queue import ABSENT, DRAINING, SERVING, State

if TYPE_CHECKING:
    import numpy.typing as npt

    from wetread_bench.autoscale.curve import Floats, ServiceCurve
    from wetread_bench.autoscale.queue import Whole

    Kinds = npt.NDArray[np.int8]

_LONGEST = 2**23


@dataclass(frozen=True)
class ReaderSettings:
    """How a pod's reader takes work."""

    slots: int = 4
    """`[triton] concurrency`."""
    most_ahead: int = 4
    """Works leased beyond those under way: as many as slots."""
    look_s: float = 0.25
    """Between two looks of an idle reader over HTTP; 0: an arrival wakes it, as in process."""
    lease_s: float = 60.0
    """After which a killed pod's works are leased anew."""


DIRECT = ReaderSettings(most_ahead=0, look_s=0.0)


class Overflow(Exception):
    """More works wait than are simulated."""


class Worklist:
    """A worklist and places for `pods` pods; `seed`: of the works' sizes."""

    def __init__(
        self,
        curve: ServiceCurve,
        pods: int,
        settings: ReaderSettings = ReaderSettings(),
        seed: int = 0,
        longest: int = _LONGEST,
    ) -> None:
        self.settings = settings
        self.state = _state(curve, pods, settings, seed, longest)
        self._leased_by_dead: list[tuple[float, float, int]] = []
        self._arrived_before = 0

    @property
    def now(self) -> float:
        """Seconds."""
        return float(self.state.now[0])

    @property
    def arrived(self) -> int:
        """Works that came."""
        return int(self.state.counts[queue.ARRIVED])

    @property
    def completed(self) -> int:
        """Works that were read."""
        return int(self.state.counts[queue.COMPLETED])

    @property
    def given_back(self) -> int:
        """Works that a pod had leased and another one read."""
        return int(self.state.counts[queue.GIVEN_BACK])

    @property
    def held(self) -> int:
        """Works that are waiting, leased or under way."""
        state = self.state
        alive = int(state.length.sum() + state.ahead_length.sum() + state.under_way.sum())
        return alive + len(self._leased_by_dead)

    @property
    def lost(self) -> int:
        """Works that came, were not read and are nowhere."""
        return self.arrived - self.completed - self.held

    def oldest_waiting_s(self) -> float:
        """Give the age of the oldest work that is not begun; 0 where none waits."""
        state, oldest = self.state, math.inf
        for kind in (queue.ROUTINE, queue.STAT):
            if state.length[kind]:
                oldest = min(oldest, state.queue[kind, state.head[kind]])
            for pod in np.flatnonzero(state.ahead_length[:, kind]):
                oldest = min(oldest, state.ahead[pod, kind, 0])
        return max(0.0, self.now - oldest) if oldest < math.inf else 0.0

    def advance(self, until: float, arrivals: Floats, kinds: Kinds | None = None) -> None:
        """Run to `until` with these arrivals; Overflow: more wait than there is room for."""
        due = sorted(each for each in self._leased_by_dead if each[0] <= until)
        if due:  # their leases end in between: they are the oldest of the queue then
            moment = max(self.now, due[0][0])
            split = int(np.searchsorted(arrivals, moment))
            self._run(moment, arrivals[:split], None if kinds is None else kinds[:split])
            self._leased_by_dead.remove(due[0])
            queue.push_front(self.state, due[0][2], due[0][1])
            self.advance(until, arrivals[split:], None if kinds is None else kinds[split:])
            return
        self._run(until, arrivals, kinds)

    def start(self, pod: int) -> None:
        """A pod is ready: it begins to lease."""
        state = self.state
        assert state.phase[pod] == ABSENT
        assert state.under_way[pod] == 0
        state.phase[pod], state.updated[pod], state.completed[pod] = SERVING, self.now, 0
        queue.serve(state, pod, self.now)

    def drain(self, pod: int) -> None:
        """A pod is told to stop: it gives back what it has not begun and ends what it has."""
        state = self.state
        queue.catch_up(state, pod, self.now)
        self._give_back_ahead(pod)
        state.phase[pod] = DRAINING if state.under_way[pod] else ABSENT
        state.next_look[pod] = math.inf
        if not state.look_s:
            self._wake_all()

    def kill(self, pod: int) -> None:
        """A pod dies: what it had leased is leased anew when its leases have run out."""
        state = self.state
        until = self.now + self.settings.lease_s
        for kind in (queue.ROUTINE, queue.STAT):
            held = state.ahead[pod, kind, : state.ahead_length[pod, kind]]
            self._leased_by_dead += [(until, float(arrived), kind) for arrived in held]
        for slot in range(int(state.under_way[pod])):
            arrived = float(state.arrival[pod, slot])
            self._leased_by_dead.append((until, arrived, int(state.is_stat[pod, slot])))
        state.ahead_length[pod] = 0
        state.under_way[pod], state.phase[pod] = 0, ABSENT
        state.next_end[pod] = state.next_look[pod] = math.inf

    def is_gone(self, pod: int) -> bool:
        """Whether a drained pod has ended its last work."""
        return bool(self.state.phase[pod] == ABSENT)

    def take_histogram(self) -> Whole:
        """Give the times of works that ended since the last call, by priority and bin, and begin anew."""
        taken = self.state.histogram.copy()
        self.state.histogram[:] = 0
        return taken

    def _run(self, until: float, arrivals: Floats, kinds: Kinds | None) -> None:
        if kinds is None:
            kinds = np.zeros(len(arrivals), np.int8)
        queue.advance(self.state, until, arrivals, kinds)
        if self.state.counts[queue.OVERFLOWED]:
            raise Overflow(f"more than {self.state.queue.shape[1]:,} works wait")

    def _give_back_ahead(self, pod: int) -> None:
        state = self.state
        for kind in (queue.ROUTINE, queue.STAT):
            for arrived in reversed(state.ahead[pod, kind, : state.ahead_length[pod, kind]].tolist()):
                queue.push_front(state, kind, arrived)
        state.ahead_length[pod] = 0

    def _wake_all(self) -> None:
        for pod in np.flatnonzero(self.state.phase == SERVING):
            queue.serve(self.state, pod, self.now)


def _state(curve: ServiceCurve, pods: int, settings: ReaderSettings, seed: int, longest: int) -> State:
    most = settings.slots + 1
    rates = curve.rates(most)
    speed = np.divide(rates, np.arange(most + 1), out=np.zeros(most + 1), where=np.arange(most + 1) > 0)
    return State(
        now=np.zeros(1),
        queue=np.empty((2, longest)),
        head=np.zeros(2, np.int64),
        length=np.zeros(2, np.int64),
        phase=np.zeros(pods, np.int64),
        under_way=np.zeros(pods, np.int64),
        target=np.zeros((pods, most)),
        arrival=np.zeros((pods, most)),
        is_stat=np.zeros((pods, most), np.int64),
        progress=np.zeros(pods),
        updated=np.zeros(pods),
        ahead=np.zeros((pods, 2, 2 * most + settings.most_ahead)),
        ahead_length=np.zeros((pods, 2), np.int64),
        next_end=np.full(pods, math.inf),
        next_look=np.full(pods, math.inf),
        completed=np.zeros(pods, np.int64),
        level_s=np.zeros((pods, most + 1)),
        speed=speed,
        sizes=np.ascontiguousarray(curve.sizes(most)),
        random=np.array([seed], np.uint64),
        histogram=np.zeros((2, queue.BINS), np.int64),
        counts=np.zeros(4, np.int64),
        slots=settings.slots,
        most_ahead=settings.most_ahead,
        look_s=settings.look_s,
    )


def quantile_s(histogram: Whole, share: float) -> float:
    """Give a quantile of counted times, the middle of its bin of 1 %; NaN of none."""
    counts = histogram if histogram.ndim == 1 else histogram.sum(axis=0)
    total = counts.sum()
    if not total:
        return math.nan
    at = int(np.searchsorted(np.cumsum(counts), share * total))
    return float(queue.LEAST_S * (1 + queue.BIN_GROWTH) ** (at + 0.5))
