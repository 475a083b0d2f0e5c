"""A worker of the bench of volumes: one process, pinned, with as many threads in every pool as it has cores."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from wetread_bench.worker import obey

POOLS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip


class Steps:
    """The steps of the bench; a series that several take is read once. Imports wait for the pools to be set."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._sources: dict[str, Any] = {}

    def resample(self, name: str, folder: str, rounds: int, slow_rounds: int) -> dict[str, Any]:
        """Resampling of the series `name` in `folder`."""
        from wetread_bench.volumes_resample import compare_resampling  # noqa: PLC0415

        return compare_resampling(self._source(name, folder), name, self._threads, rounds, slow_rounds).to_json()

    def series(self, name: str, folder: str, rounds: int, slow_rounds: int, monai: str) -> dict[str, Any]:
        """The whole series, files to tensor."""
        from wetread_bench.volumes_series import compare_series  # noqa: PLC0415

        return compare_series(Path(folder), name, self._threads, rounds, slow_rounds, monai).to_json()

    def denoise(self, name: str, folder: str, rounds: int, slow_rounds: int) -> dict[str, Any]:
        """Non-local means and wavelets on a crop."""
        from wetread_bench.volumes_denoise import compare_denoising  # noqa: PLC0415

        return compare_denoising(self._source(name, folder).stack, rounds, slow_rounds).to_json()

    def bias_field(self, name: str, folder: str, rounds: int) -> dict[str, Any]:
        """N4."""
        from wetread_bench.volumes_bias_field import compare_bias_fields  # noqa: PLC0415

        return compare_bias_fields(self._source(name, folder), self._threads, rounds).to_json()

    def costs(self, name: str, folder: str, rounds: int) -> dict[str, Any]:
        """The small steps."""
        from wetread_bench.volumes_costs import small_steps  # noqa: PLC0415

        return small_steps(self._source(name, folder), name, self._threads, rounds).to_json()

    def compile(self) -> dict[str, float]:
        """Load every kernel and say how long it took, imports apart."""
        import wetread_preprocess.volumes  # noqa: F401, PLC0415
        from wetread_preprocess.volumes.compiled import compile_kernels  # noqa: PLC0415

        begun = time.perf_counter()
        compile_kernels()
        return {"seconds": round(time.perf_counter() - begun, 4)}

    def _source(self, name: str, folder: str) -> Any:
        from wetread_bench.volumes_stack import Source, read_whole  # noqa: PLC0415

        if name not in self._sources:
            self._sources[name] = Source.of(read_whole(Path(folder), name.upper()))
        return self._sources[name]


def main() -> None:
    """Be a worker. Argument: threads, which are cores."""
    threads = int(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.update(dict.fromkeys(POOLS, str(threads)))
    steps = Steps(threads)
    obey({
        "resample": steps.resample, "series": steps.series, "denoise": steps.denoise, "bias_field": steps.bias_field,
        "costs": steps.costs, "compile": steps.compile,
    })  # fmt: skip


if __name__ == "__main__":
    main()
