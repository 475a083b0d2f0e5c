"""The running stack on loopback as a cluster would scrape it: PACS, Triton, gateway, and a real Prometheus over them.

Labels are those that the ServiceMonitor and PodMonitor give: job, namespace, pod, endpoint.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import pydicom
import yaml
from certificates import Authority
from sqlalchemy import update
from wetread_bench.hospital import STAT_AE_TITLE, GatewayPlan, Hospital, storescu
from wetread_bench.servers import end, free_port, listens, wait_until
from wetread_gateway.drift.gauges import FEWEST
from wetread_gateway.state.drift_tables import DRIFT_COUNTS
from wetread_gateway.state.store import StateStore
from wetread_models.synthetic import FilmModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack

    from kept_alive import KeptAlive

CHECKOUT = Path(__file__).parents[2]
FILM_MODEL = CHECKOUT / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz"
NAMESPACE = "wetread"
SCRAPE_S = 2  # and as long for an answer
WAIT_S = 180.0  # of a machine that is busy
_ANSWER_S = 60.0

Series = list[tuple[dict[str, str], float]]


@dataclass(frozen=True, slots=True)
class Target:
    """One address that Prometheus asks, under the labels of the pod that would have it."""

    job: str
    pod: str
    endpoint: str
    url: str

    def config(self) -> dict[str, object]:
        """One scrape_config of Prometheus."""
        url = httpx.URL(self.url)
        return {
            "job_name": f"{self.job}/{self.pod}/{self.endpoint}",
            "metrics_path": url.path,
            "static_configs": [{"targets": [f"{url.host}:{url.port}"], "labels": self.labels()}],
        }

    def labels(self) -> dict[str, str]:
        """What the monitors of the cluster attach."""
        return {"job": self.job, "namespace": NAMESPACE, "pod": self.pod, "endpoint": self.endpoint}


class Prometheus:
    """Debian's Prometheus over some targets; a context that leaves no process behind."""

    def __init__(self, folder: Path, targets: Sequence[Target], rules: Sequence[Path] = ()) -> None:
        self._folder, self.targets, self._rules = folder, tuple(targets), tuple(rules)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=_ANSWER_S)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        every = f"{SCRAPE_S}s"
        content = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(path) for path in self._rules],
            "scrape_configs": [target.config() for target in self.targets],
        }
        config.write_text(json.dumps(content))  # JSON is YAML
        log_file = self._folder / "log"
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._process, self._is_ready, log_file)
        return self

    def __exit__(self, *error: object) -> None:
        end(self._process)
        self._http.close()

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def query(self, promql: str) -> Series:
        """Give what an instant query answers: labels and value of each series, NaN left out."""
        answer = self._http.get("/api/v1/query", params={"query": promql})
        content = answer.json()
        assert content["status"] == "success", f"{promql}: {content.get('error')}"
        result = content["data"]["result"]
        if content["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        found = [(dict(one["metric"]), float(one["value"][1])) for one in result]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def metric_names(self) -> set[str]:
        """Give the name of every series that it holds."""
        return set(self._http.get("/api/v1/label/__name__/values").json()["data"])

    def firing(self) -> list[dict[str, str]]:
        """Give the labels of the alerts that fire now."""
        alerts = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]


@dataclass
class LiveStack:
    """What a test asks of the running stack: `query`, `await_query`, `scrape`, `send`."""

    folder: Path
    hospital: Hospital
    prometheus: Prometheus
    _sent: int = field(default=0, repr=False)

    def query(self, promql: str) -> Series:
        """Give what an instant query answers now: labels and value of each series."""
        return self.prometheus.query(promql)

    def await_query(self, promql: str, holds: Callable[[Series], bool] = bool, timeout_s: float = WAIT_S) -> Series:
        """Ask until the answer is as wanted (by default: not empty) and give it; the last one when time is over."""
        deadline = time.monotonic() + timeout_s
        while not holds(answer := self.query(promql)) and time.monotonic() < deadline:
            time.sleep(0.2)  # Prometheus tells nobody that it has scraped
        return answer

    def scrape(self, target: Target) -> str:
        """Give a target's metrics as text, past Prometheus."""
        return httpx.get(target.url, trust_env=False, timeout=_ANSWER_S).text

    def send(self, count: int, *, stat: bool = False, calling: str = "MODALITY", manufacturer: str = "") -> None:
        """Send so many new films of the pipeline's own kind; each is acknowledged when this returns."""
        sent_from = self.folder / "sent"
        sent_from.mkdir(exist_ok=True)
        model, files = FilmModel.load(FILM_MODEL), []
        for number in range(self._sent, self._sent + count):
            film = pydicom.dcmread(io.BytesIO(model.dicom(90_000 + number, "normal", 256, 256)))
            if manufacturer:
                film.Manufacturer, film.ManufacturerModelName = manufacturer, "M1"
            files.append(sent_from / f"{number}.dcm")
            film.save_as(files[-1], enforce_file_format=True)
        self._sent += count
        called = STAT_AE_TITLE if stat else "WETREAD"
        done = storescu(self.hospital.gateway.dicom_port, files, called=called, calling=calling)
        assert done.returncode == 0, done.stderr

    def await_all_delivered(self) -> None:
        """Wait until the PACS has confirmed what was sent, and Prometheus has seen so."""
        wanted = f'sum(wetread_gateway_deliveries{{state="delivered"}}) >= {self._sent}'
        assert self.await_query(wanted), "not delivered in time"

    def age_readings(self, times: int) -> None:
        """Have what was counted for drift so many times, as if the stack had run for days."""
        store = StateStore(self.hospital.gateway.state)
        with store.write() as connection:
            connection.execute(update(DRIFT_COUNTS).values(readings=DRIFT_COUNTS.c.readings * times))
        store.close()


@contextmanager
def remote_reader(hospital: Hospital, folder: Path) -> Iterator[Target]:
    """Run a reader as a Triton pod does, beside the gateway's own; its health port as a target."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("wetread")), "gateway", "reader", "--name", "remote-0"]
    command += ["--url", hospital.gateway.url, "--triton", hospital.triton.http_url]
    command += ["--health-port", str(port), "--health-host", "127.0.0.1"]
    log_file = folder / "reader.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(process, lambda: listens(port), log_file)
        yield Target("wetread-triton", "wetread-triton-0", "health-reader", f"http://127.0.0.1:{port}/metrics")
    finally:
        end(process)


def targets_of(hospital: Hospital) -> list[Target]:
    """Give the addresses that a cluster's monitors would find."""
    return [
        Target("wetread-intake", "wetread-intake-0", "http", f"{hospital.gateway.url}/metrics"),
        Target("wetread-triton", "wetread-triton-0", "metrics", hospital.triton.metrics_url),
    ]


def missing_programs() -> str:
    """Say which of the programs are not installed; empty when all are."""
    absent = [name for name in ("prometheus", "promtool", "Orthanc", "storescu") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (make setup-system)" if absent else ""


def start(stack: ExitStack, folder: Path, triton: KeptAlive, rules: Mapping[str, object]) -> LiveStack:
    """Start the rest in `folder`, read films through it and wait until Prometheus holds what came of them.

    `rules`: a Prometheus rule file's content, evaluated as often as it scrapes.
    """
    elsewhere = Authority(folder / "authority").issue("elsewhere").certificate
    plan = GatewayPlan(
        sections=(("intake", "watermark_free_bytes = 1048576\noverload_age_s = 86400"),),
        extra='[[destination]]\nname = "elsewhere"\nkind = "stow"\nverify = "qido"\n'
        f'url = "https://127.0.0.1:1/studies"\nauthorities = "{elsewhere}"\n',
    )
    hospital = stack.enter_context(Hospital(folder / "hospital", plan, triton=triton))
    rule_file = folder / "rules.yml"
    rule_file.write_text(yaml.safe_dump(dict(rules)))
    targets = [*targets_of(hospital), stack.enter_context(remote_reader(hospital, folder))]
    prometheus = stack.enter_context(Prometheus(folder / "prometheus", targets, [rule_file]))
    running = LiveStack(folder, hospital, prometheus)
    # A rise is seen from the second scrape on: the films come after the first.
    assert running.await_query("wetread_gateway_study_seconds_count")
    running.send(6, manufacturer="ACME")
    running.send(2, stat=True, calling="SECOND_SITE")
    running.await_all_delivered()
    running.age_readings(FEWEST)
    assert running.await_query(f"count(up == 1) == {len(prometheus.targets)}"), running.query("up")
    return running
