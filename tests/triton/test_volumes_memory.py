"""The server's memory with ten series in flight: bounded by what ten need, and no more in later rounds."""

import threading
from pathlib import Path

import numpy as np
import pytest
from volume_release import SEGMENTER, Asker, Filling, VolumeSite, phantom
from wetread_embedded import EmbeddedTriton
from wetread_models.volume_networks import level_segmenter

pytestmark = [pytest.mark.triton, pytest.mark.full]

IN_FLIGHT = 10
ROUNDS = 5
SHAPE, STEP_MM = (60, 256, 256), 2.0
VOXELS = 128 * 256 * 256
"""Of VOLUME, in its bucket."""
OF_A_SERIES = VOXELS * (4 + 1 + 3 * 4) + 60 * 256 * 256 * 3
"""Bytes of VOLUME, MASK, LOGITS, the files and SEGMENTATION."""
COPIES = 4
"""Of each of those, at most, in the server, in its processes and in the shared memory between them, all ten at once."""
_EVERY_S = 0.01


class Meter:
    """Watches the memory of a server's processes and of the shared memory between them, until it is closed."""

    def __init__(self, server: EmbeddedTriton) -> None:
        self._server = server
        self._prefix = server._store.prefix
        self._ended = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Bytes: private memory of the whole process tree, and the shared memory once."""
        shared = sum(path.stat().st_blocks * 512 for path in Path("/dev/shm").glob(f"{self._prefix}*"))
        return shared + sum(private(pid) for pid in tree(self._server.pid))

    def peak(self) -> int:
        """The most since the last call."""
        peak, self._peak = max(self._peak, self.now()), 0
        return peak

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._peak = max(self._peak, self.now())


def tree(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # it has just ended
    return found


def private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_ten_series_in_flight_take_bounded_memory_round_after_round(tmp_path, record_property):
    recipe = {"steps": [{"step": "resample"}, {"step": "normalise", "method": "range", "percentiles": [0, 100]}]}
    site = VolumeSite(tmp_path, [Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter(), recipe)])
    series = [phantom(SHAPE, seed, step_mm=STEP_MM) for seed in range(2)] * (IN_FLIGHT // 2)
    with site.served() as server:
        meter, asker = Meter(server), Asker(server)
        idle = meter.peak()
        peaks = []
        for _ in range(ROUNDS):
            answers = asker.together("brain_mr", series)
            assert [answer["SEGMENTATION"].shape for answer in answers] == [SHAPE] * IN_FLIGHT
            for again in range(2, IN_FLIGHT):
                np.testing.assert_array_equal(answers[again]["SEGMENTATION"], answers[again % 2]["SEGMENTATION"])
            peaks.append(meter.peak())
        sizes = asker.batches("brain_mr_segmenter")
        asker.close()
        meter.close()
    figures = {"idle_mb": idle >> 20, "peak_mb": [peak >> 20 for peak in peaks], "batches": sizes}
    record_property("memory", figures)
    print(figures)  # noqa: T201 - what the test is for
    assert peaks[0] > idle + VOXELS * 4, "the series must matter"
    assert max(peaks) - idle <= COPIES * IN_FLIGHT * OF_A_SERIES, figures
    assert max(peaks[2:]) <= 1.15 * max(peaks[:2]), figures
