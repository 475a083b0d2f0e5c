"""`python images/measure.py [PART...]`: sizes, cold start and memory of the images, to docs/benchmarks/images.json."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from buildah import FOLDER, ROOT, Buildah
from container import Container, Mount
from wetread_bench.demo import write_films
from wetread_bench.servers import free_port, listens

from build import NAMES, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USER = 10001
ROUNDS = 3
TARGET = ROOT / "docs" / "benchmarks" / "images.json"
_GIGABIT = 1e9 / 8
_LARGEST = "cd /opt/wetread/lib/python3.11/site-packages && du -sm * | sort -rn | head -8"
_KERNELS = (
    "import time; from wetread_preprocess.volumes.compiled import compile_kernels; "
    "import wetread_preprocess.volumes.volume; t = time.monotonic(); compile_kernels(); print(time.monotonic() - t)"
)


def main(parts: Sequence[str]) -> int:
    """Measure the named parts, or all, and write them into the file; other parts stay as they are."""
    buildah = Buildah()
    figures: dict[str, Any] = json.loads(TARGET.read_text()) if TARGET.exists() else {}
    measured: dict[str, Callable[[Path], object]] = {
        "images": lambda work: {name: sizes(buildah, name, work) for name in NAMES},
        "cold_start_s": lambda work: steps(buildah, work),
        "gateway": lambda work: gateway(buildah, work),
        "demo": lambda work: demo(buildah, work),
    }
    for part in parts or measured:
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0]}
        with tempfile.TemporaryDirectory(prefix="wetread-images-") as folder:
            figures[part] = {"machine": machine, "figures": measured[part](Path(folder))}
        TARGET.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(TARGET.read_text())
    return 0


def sizes(buildah: Buildah, name: str, work: Path) -> dict[str, Any]:
    """Give what an image takes on disk and on the wire, its layers and its largest packages in MB."""
    told = json.loads(buildah.output("images", "--json", tag(name)))[0]
    pushed = work / name
    buildah("push", "--quiet", tag(name), f"oci:{pushed}")
    wire = sum(file.stat().st_size for file in pushed.rglob("*") if file.is_file())
    shutil.rmtree(pushed)
    with Container(buildah, tag(name), [], work / "log") as container:
        rows = [line.split("\t") for line in container.output("sh", "-c", _LARGEST).splitlines()]
        unpacked = int(container.output("sh", "-c", "du -smx / 2>/dev/null | cut -f1").split()[0])
    return {
        "size": told["size"],
        "unpacked_mb": unpacked,
        "wire_mb": round(wire / 1e6),
        "layers": len(buildah.inspect(tag(name))["OCIv1"]["rootfs"]["diff_ids"]),
        "pull_s_at_1_gbit": round(wire / _GIGABIT, 2),
        "largest_mb": {package: int(size) for size, package in rows},
    }


def steps(buildah: Buildah, work: Path) -> dict[str, float]:
    """Give the seconds of the steps of a cold start that are programs of their own, medians of a few rounds."""
    found = {}
    with Container(buildah, tag("gateway"), [], work / "log") as container:
        found["container"] = _median(lambda: container.output("true"))
        found["python"] = _median(lambda: container.output("python", "-c", "pass"))
        found["import_gateway"] = _median(lambda: container.output("python", "-c", "import wetread_gateway.process"))
        found["wetread_version"] = _median(lambda: container.output("wetread", "--version"))
    prepare = ("wetread", "release", "agent", "--store", "/models", "--prepare")
    folders = {"/models": work / "models", "/var/lib/wetread": work / "agent"}
    mounts = [Mount(_folder(folder), target, writable=True) for target, folder in folders.items()]
    with Container(buildah, tag("release"), mounts, work / "log") as container:
        found["agent_prepare"] = _timed(lambda: container.output(*prepare))
        found["agent_prepare_again"] = _median(lambda: container.output(*prepare))
        cold, warm = (float(container.output("sh", "-c", command)) for command in _kernel_commands())
        found["kernels_compile"], found["kernels_from_cache"] = round(cold, 3), round(warm, 3)
    return found


def demo(buildah: Buildah, work: Path) -> dict[str, Any]:
    """Start the demo image and read films: when what was ready, the first reading and later ones, memory, the end."""
    films = write_films(ROOT, work / "films", (1, 6, 15))
    dicom, http, triton = free_port(), free_port(), free_port()
    mounts = _mounts(work, {"11112": dicom, "8080": http, "8000": triton, "4242": free_port()})
    with Container(buildah, tag("all-in-one"), mounts, work / "demo.log") as container:
        found: dict[str, Any] = {}
        half = len(films) // 2  # none twice: a duplicate is not read
        for start, fresh in (("first_start_s", films[:half]), ("second_start_s", films[half:])):
            found[start] = _ready(container, dicom, http, triton)
            found[start]["readings"] = [_read(f"http://127.0.0.1:{http}", film) for film in fresh]
            found |= _told(container)
            found["stop_s"] = _timed(container.stop)
    return found


def gateway(buildah: Buildah, work: Path) -> dict[str, Any]:
    """Start the gateway image, without a server to read: when both doors were open, and memory before any film."""
    dicom, http = free_port(), free_port()
    mounts = _mounts(work, {"11112": dicom, "8080": http, "8000": free_port(), "4242": free_port()})
    with Container(buildah, tag("gateway"), mounts, work / "gateway.log") as container:
        container.start()
        opened_s = container.wait_until(lambda: listens(dicom) and listens(http))
        told = _told(container)
        return {"doors_open_s": round(opened_s, 3), **told, "stop_s": _timed(container.stop)}


def _mounts(work: Path, ports: dict[str, int]) -> list[Mount]:
    """Give the state and the demo's configuration with other ports."""
    config = work / "config"
    config.mkdir(mode=0o755)
    toml = (ROOT / "images" / "all-in-one" / "gateway.toml").read_text()
    for old, new in ports.items():
        toml = toml.replace(old, str(new))
    (config / "gateway.toml").write_text(toml)
    return [Mount(_folder(work / "state"), "/var/lib/wetread", writable=True), Mount(config, "/etc/wetread")]


def _told(container: Container) -> dict[str, Any]:
    memory = {name: round(size / 1e6) for name, size in container.memory().items()}
    return {"memory_mb": memory, "processes": len(container.processes())}


def _ready(container: Container, dicom: int, http: int, triton: int) -> dict[str, Any]:
    """Start it and give the seconds until Triton listened, its pipeline was ready, and both doors were open."""
    url, started = f"http://127.0.0.1:{triton}/v2/models/chest_xray/ready", time.monotonic()
    container.start("/etc/wetread/gateway.toml")
    found: dict[str, Any] = {}
    conditions: Sequence[tuple[str, Callable[[], bool]]] = (
        ("triton_listens", lambda: listens(triton)),
        ("pipeline_ready", lambda: httpx.get(url).is_success),
        ("doors_open", lambda: listens(dicom) and listens(http)),
    )
    for name, condition in conditions:
        container.wait_until(condition)
        found[name] = round(time.monotonic() - started, 3)
    return found


def _read(url: str, film: Path) -> float:
    def post() -> None:
        headers = {"Content-Type": "application/dicom"}
        httpx.post(f"{url}/v1/read", content=film.read_bytes(), headers=headers, timeout=120).raise_for_status()

    return _timed(post)


def _kernel_commands() -> tuple[str, str]:
    """Give two commands, with an empty cache and with a filled one, in one container with one /tmp each."""
    one = f'python -c "{_KERNELS}"'
    return one, f"{one} > /dev/null; {one}"


def _folder(path: Path) -> Path:
    path.mkdir()
    os.chown(path, USER, USER)
    return path


def _median(action: Callable[[], object]) -> float:
    return round(statistics.median(_timed(action) for _ in range(ROUNDS)), 3)


def _timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return round(time.monotonic() - started, 3)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    sys.exit(main(sys.argv[1:]))
