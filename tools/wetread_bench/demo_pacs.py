"""`make demo-pacs`: films go from a modality to the gateway, and a report and a capture of each to the PACS."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from PIL import Image
from rich.console import Console
from wetread_embedded.config import find_checkout
from wetread_embedded.errors import EmbeddedError

from wetread_bench.demo import write_films
from wetread_bench.hospital import GatewayEnded, Hospital
from wetread_bench.orthanc import Orthanc, missing
from wetread_bench.servers import NotStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

WAIT_S = 60.0
SEEDS = (1, 6, 15)  # one positive film unlike those of training, and two like them: both captures are worth seeing
_SR = "SR"


def main() -> int:
    """Run the demo; 0 when every film came back as a report and a capture."""
    console = Console(highlight=False)
    if absent := missing("Orthanc", "storescu", "dsrdump"):
        console.print(f"demo-pacs: {absent}: it needs a PACS to talk to")
        return 1
    root = find_checkout()
    folder = root / "build" / "demo-pacs"
    shutil.rmtree(folder, ignore_errors=True)
    films = write_films(root, folder / "films", SEEDS)
    console.print("Starting Triton, a PACS (Orthanc) and the gateway, all on loopback and free ports ...")
    try:
        with tempfile.TemporaryDirectory(prefix="wetread-demo-") as state, Hospital(Path(state)) as hospital:
            return _trip(hospital, films, folder, console)
    except (EmbeddedError, GatewayEnded, NotStarted) as error:
        console.print(f"demo-pacs: {error}", markup=False)
        return 1


def _trip(hospital: Hospital, films: Sequence[Path], folder: Path, console: Console) -> int:
    address = f"127.0.0.1 {hospital.gateway.dicom_port}"
    console.print(f"$ storescu -aec WETREAD {address} {films[0].parent}/*.dcm", markup=False)
    started = time.monotonic()
    if hospital.storescu(films):
        console.print("demo-pacs: the gateway did not take the films; its log:")
        console.print(hospital.gateway.log.read_text()[-3000:], markup=False)
        return 1
    sent = time.monotonic()
    results = _wait_for(hospital.pacs, 2 * len(films))
    back = time.monotonic()
    console.print(
        f"{len(films)} films sent in {(sent - started) * 1e3:.0f} ms; {len(results)} results in the PACS "
        f"{(back - sent) * 1e3:.0f} ms after the last Success.\n"
    )
    for number, dataset in enumerate(results):
        _show(dataset, folder / f"{number:02}-{dataset.Modality}", console, whole=number == 0)
    study = str(results[0].StudyInstanceUID) if results else ""
    command = [str(Path(sys.executable).with_name("wetread")), "gateway", "study", study]
    console.print("\n$ wetread gateway study", study, markup=False)
    subprocess.run([*command, "--config", str(hospital.gateway.config)], check=False)
    console.print(f"\nReports as text and captures as PNG: {folder}", markup=False)
    return 0 if len(results) == 2 * len(films) else 1


def _wait_for(pacs: Orthanc, count: int) -> list[pydicom.Dataset]:
    """Wait until the PACS holds `count` objects, then give them, reports first."""
    deadline = time.monotonic() + WAIT_S
    while len(pacs.instances()) < count and time.monotonic() < deadline:
        time.sleep(0.02)  # Orthanc tells of what it stores only when it is asked
    found = [pydicom.dcmread(io.BytesIO(pacs.file(identifier))) for identifier in pacs.instances()]
    return sorted(found, key=lambda dataset: (dataset.Modality != _SR, dataset.StudyInstanceUID))


def _show(dataset: pydicom.Dataset, target: Path, console: Console, *, whole: bool) -> None:
    """Write a report as text and a capture as PNG; print the first report in full."""
    if dataset.Modality != _SR:
        Image.fromarray(dataset.pixel_array).save(target.with_suffix(".png"))
        return
    file = target.with_suffix(".dcm")
    dataset.save_as(file)
    command = ["dsrdump", "+Pl", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    target.with_suffix(".txt").write_text(told)
    if whole:
        console.print(told, markup=False)


if __name__ == "__main__":
    sys.exit(main())
