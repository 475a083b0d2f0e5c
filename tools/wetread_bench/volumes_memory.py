"""Peak memory of one whole series in a fresh process: the kernel's high-water mark less what the imports hold."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_bench.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEAK, _NOW = "VmHWM", "VmRSS"


def status_bytes(field: str, pid: int, proc: Path = Path("/proc")) -> int:
    """A field of /proc/pid/status in bytes (proc(5)); 0 where it lacks."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB$", (proc / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:  # it ended meanwhile
        return 0
    return int(found[1]) * 1024 if found else 0


def measure(way: str, folder: Path, name: str, threads: int) -> dict[str, float]:
    """Read the series once by `wetread` or `SimpleITK`, in this process, which has done nothing else.

    The files' bytes are counted; a decoding process, which uncompressed files do not start, beside.
    """
    if way == "wetread":
        return _ours(folder, name, threads)
    return _simpleitk(folder, threads)


def _ours(folder: Path, name: str, threads: int) -> dict[str, float]:
    from wetread_preprocess.volumes import VolumePreprocessor  # noqa: PLC0415  # before the mark is set
    from wetread_preprocess.volumes.compiled import compile_kernels  # noqa: PLC0415

    from wetread_bench.volumes_series import recipe  # noqa: PLC0415
    from wetread_bench.volumes_stack import read_files  # noqa: PLC0415

    with VolumePreprocessor(recipe(name), threads) as preprocessor:
        compile_kernels()
        before = _mark()
        volume = preprocessor.read(read_files(folder))
        peak = status_bytes(_PEAK, os.getpid())
        children = sum(status_bytes(_NOW, pid) for pid in descendants(os.getpid()))
        return _told(before, peak, volume.values.nbytes, volume.content.nbytes, children)


def _simpleitk(folder: Path, threads: int) -> dict[str, float]:
    import SimpleITK as sitk  # noqa: N813, PLC0415  # the name all its users know

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    before = _mark()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    resampler = sitk.ResampleImageFilter()
    pairs = zip(image.GetSize(), image.GetSpacing(), strict=True)
    resampler.SetSize([max(1, round(side * spacing)) for side, spacing in pairs])
    resampler.SetOutputSpacing((1.0, 1.0, 1.0))
    resampler.SetOutputOrigin(image.GetOrigin())
    resampler.SetOutputDirection(image.GetDirection())
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(resampler.Execute(image))
    return _told(before, status_bytes(_PEAK, os.getpid()), values.nbytes, values.nbytes, 0)


def _mark() -> int:
    """Forget the peak of the imports; give what is held now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the high-water mark begins anew
    return status_bytes(_NOW, os.getpid())


def _told(before: int, peak: int, padded: int, output: int, children: int) -> dict[str, float]:
    """`over_output`: of the volume as the model gets it, padding and all."""
    return {
        "before_bytes": before,
        "peak_bytes": peak - before,
        "content_bytes": output,
        "output_bytes": padded,
        "decoding_process_bytes": children,
        "over_output": round((peak - before) / padded, 4),
        "over_content": round((peak - before) / output, 4),
    }


def main(arguments: Sequence[str]) -> None:
    """Arguments: way, folder, name, threads; writes one line of JSON."""
    way, folder, name, threads = arguments
    sys.stdout.write(json.dumps(measure(way, Path(folder), name, int(threads))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
