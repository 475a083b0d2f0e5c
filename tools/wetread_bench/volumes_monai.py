"""A worker in MONAI's environment: `LoadImaged`, `Spacingd` and `ScaleIntensityRanged` on a series."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

from wetread_bench.worker import obey

_KEY = "series"


class Monai:
    """Reads one series again and again."""

    def __init__(self, threads: int) -> None:
        import torch  # noqa: PLC0415  # within the worker: a failed import is an answer

        torch.set_num_threads(threads)
        self._folder = ""
        self._transforms: Any = None

    def read(self, folder: str, window: list[float] | None) -> dict[str, object]:
        """Read a series and say its shape and its mean, of the windowed values or else of the greatest."""
        from monai.transforms import Compose, LoadImaged, ScaleIntensityRanged, Spacingd  # noqa: PLC0415

        steps = [
            LoadImaged(_KEY, reader="ITKReader", ensure_channel_first=True),
            Spacingd(_KEY, pixdim=(1.0, 1.0, 1.0), mode="bilinear", padding_mode="border"),
        ]
        if window is not None:
            low, high = window
            steps.append(ScaleIntensityRanged(_KEY, low, high, 0.0, 1.0, clip=True))
        self._folder, self._transforms = folder, Compose(steps)
        made = self._transforms({_KEY: folder})[_KEY]
        mean = float(made.mean()) / (1.0 if window else float(made.max()))
        return {"shape": [int(side) for side in made.shape[1:]], "mean": mean}

    def time(self) -> float:
        """Seconds that it takes."""
        begun = time.perf_counter()
        made = self._transforms({_KEY: self._folder})
        taken = time.perf_counter() - begun
        del made
        return taken


def main() -> None:
    """Be a worker. Argument: threads."""
    warnings.simplefilter("ignore")
    monai = Monai(int(sys.argv[1]))
    obey({"read": monai.read, "time": monai.time})


if __name__ == "__main__":
    main()
