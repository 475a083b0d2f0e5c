"""Hold a command to a time limit, scaled by this machine's speed: `python .ci/budget.py MINUTES COMMAND ...`.

A fixed loop is timed before and after. Above the limit the last line is a warning; above twice the limit the exit
status is 1.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

REFERENCE_S = 0.55
"""The loop on the machine of the limit: 2 cores of an Intel Xeon (avx512_vnni), as they are on average."""
SAMPLE_S = 8.0
"""How long the loop is repeated: cores that are shared with others are at times twice as fast as at others."""


def work() -> None:
    """Keep one core busy: Python's own arithmetic and containers, and C that it calls."""
    counts: dict[int, int] = {}
    for number in range(1_500_000):
        key = (number * 2_654_435_761) % 8191
        counts[key] = counts.get(key, 0) + 1
    block = bytes(sorted(counts.values(), key=lambda value: -value)[0] % 251 for _ in range(64)) * 16_384
    for _ in range(200):
        block = hashlib.sha256(block).digest() * 32_768


def loop_s() -> list[float]:
    """Seconds that two processes took to do the fixed work side by side, again and again."""
    took: list[float] = []
    while sum(took) < SAMPLE_S:
        began = time.perf_counter()
        workers = [multiprocessing.Process(target=work) for _ in range(min(2, os.cpu_count() or 1))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took.append(time.perf_counter() - began)
    return took


def main(minutes: float, command: list[str]) -> int:
    """Run the command; its exit status, or 1 where it took more than twice its limit."""
    loops = loop_s()
    began = time.monotonic()
    status = subprocess.run(command, check=False).returncode
    took_s = time.monotonic() - began
    loop = statistics.mean([*loops, *loop_s()])
    limit_s = minutes * 60 * loop / REFERENCE_S
    print(f"budget: the fixed loop takes {loop:.2f} s here, {REFERENCE_S:.2f} s on the reference machine")
    print(f"budget: `{' '.join(command)}` took {took_s:.0f} s of {limit_s:.0f} s", flush=True)
    if took_s > 2 * limit_s:
        print("budget: ERROR: more than twice the limit; move tests to the full tier or make them faster")
        return status or 1
    if took_s > limit_s:
        print("budget: WARNING: over the limit; look at the slowest tests above")
    return status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
