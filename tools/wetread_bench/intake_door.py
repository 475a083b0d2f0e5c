"""How many instances a second the DICOM door takes, beside the disk's own speed and a plain pynetdicom SCP."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from wetread_bench.naive_scp import LISTENING
from wetread_bench.processes import CpuUse, cpu_use

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 512  # pixels of 16 bit: 512 KB an instance
_UID = "2.25.1{study:019d}{number:018d}"  # always as long: one instance differs from the next by its UID alone
_SUCCESS = re.compile(rb"Received Store Response \(Success\)")


@dataclass(frozen=True, slots=True)
class DoorPlan:
    """`instances`: in all, over all associations; `fsyncs`: of the disk's own measurement."""

    instances: int = 2000
    associations: int = 4
    fsyncs: int = 200
    called_ae: str = "WETREAD"


@dataclass(frozen=True, slots=True)
class DoorResult:
    """Rates are instances acknowledged a second, from the first sender's start to the last one's end."""

    instances: int
    acknowledged: int
    instances_per_s: float
    naive_instances_per_s: float
    fsync_ms: float
    receiver_cpu_ms: float
    """CPU milliseconds of the receiving processes an instance; 0 when they were not named."""
    pixels: str

    @property
    def figures(self) -> dict[str, float]:
        """The numbers that a reader judges by."""
        return {
            "instances_per_s": round(self.instances_per_s, 1),
            "fsync_ms": round(self.fsync_ms, 3),
            "door_over_naive": round(self.instances_per_s / self.naive_instances_per_s, 2),
        }

    @property
    def measurements(self) -> dict[str, object]:
        """Everything, as JSON has it."""
        return asdict(self)


def bench_door(
    port: int, folder: Path, plan: DoorPlan | None = None, receivers: Sequence[int] = (), data: Path | None = None
) -> DoorResult:
    """Send new instances to the door at `port`, and as many to a plain pynetdicom SCP on the same disk.

    `folder`: for the instances and the plain SCP, on the spool's file system. `receivers`: process ids of the door's
    receivers. `data`: the real images; without them the pixels are synthetic, and the result says so.
    """
    plan = plan or DoorPlan()
    work = folder / "door"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        pixels = _real_pixels(data)
        parts = _write(work, plan, _synthetic_pixels() if pixels is None else pixels)
        fsync_ms = measure_fsync(work, plan.fsyncs)
        with naive_scp(work / "naive") as naive_port:
            naive_s, naive_taken = send(naive_port, parts, plan.called_ae)
        before = sum(cpu_use(receivers).values(), CpuUse())
        seconds, taken = send(port, parts, plan.called_ae)
        used = sum(cpu_use(receivers).values(), CpuUse()) - before
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return DoorResult(
        instances=plan.instances,
        acknowledged=taken,
        instances_per_s=taken / seconds,
        naive_instances_per_s=naive_taken / naive_s,
        fsync_ms=fsync_ms,
        receiver_cpu_ms=1000 * used.total_s / max(taken, 1),
        pixels="synthetic noise" if pixels is None else "real MR slices",
    )


def send(port: int, folders: Sequence[Path], called: str) -> tuple[float, int]:
    """Send each folder over an association of its own, all at once; the seconds it took and the Successes heard."""
    with ExitStack() as stack:
        # Files, not pipes: a pipe that nobody reads in time would hold its sender up.
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in folders]
        began = time.perf_counter()
        senders = [
            subprocess.Popen(
                ["storescu", "-v", "+sd", "-aec", called, "127.0.0.1", str(port), folder],  # noqa: S607 -- DCMTK's
                env=os.environ | {"TCP_NODELAY": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for folder, log in zip(folders, logs, strict=True)
        ]
        for sender in senders:
            sender.wait()
        seconds = time.perf_counter() - began
        for log in logs:
            log.seek(0)
        return seconds, sum(len(_SUCCESS.findall(log.read())) for log in logs)


def measure_fsync(folder: Path, times: int) -> float:
    """Give the median milliseconds of writing one instance and waiting for its fsync."""
    data = _synthetic_pixels()[0].tobytes()
    taken = []
    for number in range(times):
        path = folder / f"fsync-{number}"
        with path.open("wb") as file:
            began = time.perf_counter()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            taken.append(1000 * (time.perf_counter() - began))
        path.unlink()
    return statistics.median(taken)


@contextmanager
def naive_scp(folder: Path) -> Iterator[int]:
    """Run a plain pynetdicom SCP that fsyncs each instance; gives its port."""
    command = [sys.executable, "-m", "wetread_bench.naive_scp", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(LISTENING):
            raise RuntimeError("the plain SCP did not start")
        yield int(line.removeprefix(LISTENING))
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _write(folder: Path, plan: DoorPlan, pixels: Sequence[NDArray[np.uint16]]) -> list[Path]:
    parts = [folder / str(number) for number in range(plan.associations)]
    study = time.time_ns()
    for part in parts:
        part.mkdir()
    place = _UID.format(study=0, number=0).encode()
    templates = []
    for image in pixels:
        path = folder / "template.dcm"
        _instance(image, place.decode(), study).save_as(path, enforce_file_format=True)
        templates.append(path.read_bytes())
        path.unlink()
    for number in range(plan.instances):
        uid = _UID.format(study=study, number=number).encode()
        content = templates[number % len(templates)].replace(place, uid)
        (parts[number % len(parts)] / f"{number:05d}.dcm").write_bytes(content)
    return parts


def _instance(image: NDArray[np.uint16], uid: str, study: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.{study}", f"2.25.{study + 1}"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "BENCH", "Bench^Intake", "MR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = image.tobytes()
    return dataset


def _real_pixels(data: Path | None) -> list[NDArray[np.uint16]] | None:
    """Give some slices of the real series, tiled or cut to 512 x 512; None without them."""
    files = [] if data is None else sorted((data / "dicom" / "mr_t1").rglob("*.dcm"))
    if not files:
        return None
    middle = files[len(files) // 4 : -len(files) // 4 or None]  # slices with a head in them
    slices = [pydicom.dcmread(path).pixel_array.astype(np.uint16) for path in middle[:: max(len(middle) // 16, 1)]]
    return [np.tile(image, (SIDE // image.shape[0] + 1, SIDE // image.shape[1] + 1))[:SIDE, :SIDE] for image in slices]


def _synthetic_pixels() -> list[NDArray[np.uint16]]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 4096, (SIDE, SIDE), dtype=np.uint16) for _ in range(8)]
