"""Everything that a film benchmark runs: the server, the plain stack, the limit's processes, the load generators."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from wetread_embedded import EmbeddedTriton, ServerConfig

from wetread_bench.in_process import engine_threads
from wetread_bench.inputs import FilmInputs
from wetread_bench.machine import cores
from wetread_bench.processes import busy_s, by_class, cpu_use, descendants
from wetread_bench.results import Cell, Observation, quantile
from wetread_bench.triton_statistics import between, statistics
from wetread_bench.worker import Worker

PIPELINE = "chest_xray"
STEPS = tuple(f"{PIPELINE}_{part}" for part in ("preprocess", "classifier", "postprocess"))
GENERATORS = 4  # processes of the load generator, at most
OPEN_THREADS = 32  # of the open loop: more than the films that are ever under way
LEAD_S = 0.15  # from the command to the first film: every process has it by then
TOLERANCE = 1e-4
# Whose CPU time a cell counts: an idle server is no cost of a film read in process.
IN_PROCESS = ("in process", "in process: decoding")
PLAIN = ("client", "plain stack")
SERVED = ("client", "tritonserver", "preprocess", "decoding", "classifier", "postprocess")


class Disagree(Exception):
    """The server's answers are not those of the same code in process: nothing is worth measuring."""


class Rig:
    """Measures cells, one at a time; a context that leaves no process behind.

    `generators` and `batches` are set by calibration: processes of the load generator, the limit's batch by syntax.
    """

    def __init__(self, checkout: Path, folder: Path, inputs: FilmInputs) -> None:
        self._checkout, self._folder, self._inputs = checkout, folder, inputs
        self._loaded: dict[int, str] = {}
        self._closing = ExitStack()
        self._server: EmbeddedTriton | None = None
        self.generators = 1
        self.batches: dict[str, int] = {}
        self.rates: dict[str, float] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            start = stack.enter_context
            root = str(self._checkout)
            self._limit = [start(Worker("wetread_bench.in_process", root, "1", cores=[core])) for core in cores()]
            self._idle = start(Worker("wetread_bench.in_process", root, str(engine_threads(self._checkout))))
            self._load = [start(Worker("wetread_bench.load")) for _ in range(GENERATORS)]
            model = self._checkout / "model_repository" / f"{PIPELINE}_classifier" / "1" / "model.onnx"
            database = self._folder / "plain.sqlite"
            database.unlink(missing_ok=True)
            # A plain stack leaves its libraries' threads as they come.
            self._plain = start(Worker("wetread_bench.plain_stack", str(model), str(database), one_thread=False))
            self._plain_url = str(self._plain.ask("url"))
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    @contextmanager
    def server(self, syntaxes: list[str]) -> Iterator[EmbeddedTriton]:
        """Start a fresh server and warm every way to it up; its answers are checked against those in process."""
        config = ServerConfig.on_free_ports(root=self._checkout, store=self._folder / "served", fresh=True)
        with EmbeddedTriton(config) as server:
            self._server = server
            try:
                for syntax in syntaxes:
                    self._agree(syntax)
                yield server
            finally:
                for worker in self._load:
                    with contextlib.suppress(OSError):
                        worker.ask("release")
                self._server = None

    def run(self, cell: Cell, seconds: float, warm_s: float) -> Observation:
        """Measure one cell."""
        if cell.way in ("limit", "in_process"):
            return self.run_in_process(cell, seconds, warm_s, self.batches.get(cell.syntax, 1))
        return self.run_load(cell, seconds, warm_s, self.generators)

    def run_in_process(self, cell: Cell, seconds: float, warm_s: float, batch: int) -> Observation:
        """Measure the code without a server: pinned processes on all cores, or one idle one with a film at a time."""
        workers = self._limit if cell.way == "limit" else [self._idle]
        batch = batch if cell.way == "limit" else 1
        self._bring(workers, cell.syntax)
        begin = {"batch": batch, "seconds": seconds, "warm_s": warm_s}
        answers, used = self._window(workers, [{**begin, "offset": 8 * at} for at in range(len(workers))])
        rate = sum(answer["films"] / answer["seconds"] for answer in answers)
        films = sum(answer["films"] for answer in answers)
        stages = {
            stage: sum(answer["stages"][stage] for answer in answers) / films * 1e3 for stage in answers[0]["stages"]
        }
        latencies = [latency for answer in answers for latency in answer["latencies_ms"]]
        return _observe(rate, latencies, {}, used, seconds, IN_PROCESS, stages)

    def run_load(self, cell: Cell, seconds: float, warm_s: float, generators: int) -> Observation:
        """Measure a server under load from `generators` processes."""
        opened = cell.way == "shm_open"
        workers = self._load[: 1 if opened else min(generators, cell.concurrency)]
        self._bring(workers, cell.syntax)
        self._aim(workers, cell.way)
        threads = OPEN_THREADS if opened else cell.concurrency // len(workers)
        order: dict[str, Any] = {"threads": threads, "seconds": seconds, "warm_s": warm_s}
        if opened:
            order["rate"] = self.rates[cell.syntax]
        answers, used = self._window(workers, [{**order, "offset": 3 * at} for at in range(len(workers))])
        latencies = [latency for answer in answers for latency in answer["latencies_ms"]]
        errors: dict[str, int] = {}
        for answer in answers:
            for error, count in answer["errors"].items():
                errors[error] = errors.get(error, 0) + count
        classes = PLAIN if cell.way == "plain" else SERVED
        return _observe(len(latencies) / seconds, latencies, errors, used, seconds, classes)

    def _window(self, workers: list[Worker], orders: list[dict[str, Any]]) -> tuple[list[Any], dict[str, Any]]:
        """Run the workers at once and take the accounts at both ends of their common window."""
        start_at = time.monotonic() + LEAD_S
        for worker, order in zip(workers, orders, strict=True):
            worker.send("run", start_at=start_at, **order)
        begin = start_at + orders[0]["warm_s"]
        time.sleep(max(0.0, begin - time.monotonic()))
        before = self._accounts()
        time.sleep(max(0.0, begin + orders[0]["seconds"] - time.monotonic()))
        after = self._accounts()
        answers = [worker.receive() for worker in workers]
        classes = after["classes"]
        used = {
            "cpu": by_class(classes, before["cpu"], after["cpu"]),
            "models": between(before["models"], after["models"]) if before["models"] else {},
            "busy_s": after["busy_s"] - before["busy_s"],
            "wall_s": after["at"] - before["at"],
        }
        return answers, used

    def _accounts(self) -> dict[str, Any]:
        classes = self._classes()
        models = statistics(self._server.http_url, STEPS) if self._server else {}
        cpu = cpu_use(pid for pids in classes.values() for pid in pids)
        return {"at": time.monotonic(), "classes": classes, "cpu": cpu, "models": models, "busy_s": busy_s()}

    def _classes(self) -> dict[str, list[int]]:
        """Process ids by class; the decoding processes are children of whoever decodes."""
        limit = [worker.pid for worker in (*self._limit, self._idle)]
        classes = {
            "in process": limit,
            "in process: decoding": [pid for parent in limit for pid in descendants(parent)],
            "client": [worker.pid for worker in self._load],
            "plain stack": [self._plain.pid],
            "benchmark": [os.getpid()],
        }
        if self._server:
            stubs = self._server.stub_pids()
            classes["tritonserver"] = [self._server.pid]
            classes |= {step.removeprefix(f"{PIPELINE}_"): stubs.get(step, []) for step in STEPS}
            classes["decoding"] = [pid for parent in stubs.get(STEPS[0], []) for pid in descendants(parent)]
        return classes

    def _bring(self, workers: list[Worker], syntax: str) -> None:
        """Have the workers hold the films of a syntax."""
        late = [worker for worker in workers if self._loaded.get(worker.pid) != syntax]
        for worker in late:
            worker.send("load", files=self._inputs.files(syntax))
        for worker in late:
            worker.receive()
            self._loaded[worker.pid] = syntax

    def _aim(self, workers: list[Worker], way: str) -> None:
        for worker in workers:
            if way == "plain":
                worker.ask("aim", way=way, url=self._plain_url)
                continue
            assert self._server is not None
            url = self._server.grpc_url if way == "grpc" else self._server.http_url
            worker.ask("aim", way="shm" if way == "shm_open" else way, url=url)

    def _agree(self, syntax: str) -> None:
        """Read every film over every way; Disagree when one answers otherwise than the code in process."""
        self._bring([self._idle, self._load[0]], syntax)
        expected = self._idle.ask("probabilities")
        for way in ("shm", "http", "grpc"):
            self._aim(self._load[:1], way)
            answered = self._load[0].ask("probabilities")
            worst = max(abs(one - other) for one, other in zip(expected, answered, strict=True))
            if worst > TOLERANCE:
                raise Disagree(f"{syntax} over {way}: a probability differs by {worst:.2g} from that in process")


def _observe(
    rate: float,
    latencies: list[float],
    errors: dict[str, int],
    used: dict[str, Any],
    seconds: float,
    classes: tuple[str, ...],
    stages: dict[str, float] | None = None,
) -> Observation:
    films = max(1e-9, rate * used["wall_s"])
    ours = sum(use.total_s for use in used["cpu"].values())
    capacity = used["wall_s"] * len(cores())
    if not latencies:
        errors = {**errors, "no film ended within the window": 1}
    failed = sum(use.failed for use in used["models"].values())
    return Observation(
        films_per_s=rate,
        p50_ms=quantile(latencies, 0.5),
        p99_ms=quantile(latencies, 0.99),
        requests=round(rate * seconds),
        errors={**errors, **({"failed in Triton": failed} if failed else {})},
        cpu={name: use / films for name, use in used["cpu"].items() if name in classes and use.total_s > 0},
        models=used["models"],
        other_cpu_share=max(0.0, (used["busy_s"] - ours) / capacity),
        stages_ms=stages or {},
    )
