"""A second opinion on the throughput over shared memory: NVIDIA's perf_analyzer, where it is at hand."""

import csv
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_OUTPUT_BYTES = 1 << 20
_COLUMNS = {"Inferences/Second": "films_per_s", "p50 latency": "p50_ms", "p99 latency": "p99_ms"}


def find() -> str | None:
    """The program that WETREAD_PERF_ANALYZER names, else the one on PATH."""
    return os.environ.get("WETREAD_PERF_ANALYZER") or shutil.which("perf_analyzer")


def second_opinion(http_url: str, film: Path, seconds: float) -> dict[str, float] | str:
    """Return films/s, p50 and p99 of one film read again and again at concurrency 8, or why there are none.

    It puts the film into shared memory once, not once a request, and asks for all outputs, CARD included.
    """
    program = find()
    if program is None:
        return "not run: no perf_analyzer on PATH or in WETREAD_PERF_ANALYZER"
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "data", Path(folder) / "report.csv"
        data.mkdir()
        (data / "DICOM").write_bytes(film.read_bytes())
        command = [
            program, "-m", "chest_xray", "-u", http_url.removeprefix("http://"), "-b", "1", "-f", str(report),
            "--shape", f"DICOM:{film.stat().st_size}", "--input-data", str(data), "--shared-memory", "system",
            "--output-shared-memory-size", str(_OUTPUT_BYTES), "--concurrency-range", "8", "--percentile", "50",
            "--measurement-interval", str(int(seconds * 1000)), "--stability-percentage", "50", "--max-trials", "3",
        ]  # fmt: skip
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * seconds, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"not run: {error}"
        if ran.returncode or not report.is_file():
            return f"failed: {(ran.stderr or ran.stdout).strip()[-300:]}"
        return read_report(report.read_text())


def read_report(text: str) -> dict[str, float] | str:
    """The numbers of its CSV report; latencies there are microseconds."""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        return "failed: an empty report"
    return {
        name: round(float(rows[0][column]) / (1000 if name.endswith("_ms") else 1), 3)
        for column, name in _COLUMNS.items()
        if column in rows[0]
    }
