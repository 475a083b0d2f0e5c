"""A real tritonserver as a context manager."""

import contextlib
import logging
import socket
import time
from types import TracebackType
from typing import Self

from wetread_embedded import shared_memory, stubs
from wetread_embedded.attendant import Attendant, find_attendant
from wetread_embedded.config import ServerConfig
from wetread_embedded.errors import PortInUse, StartCrashed, StartFailed, StartTimeout
from wetread_embedded.heal import Heal
from wetread_embedded.process import ServerProcess
from wetread_embedded.requirements import check
from wetread_embedded.rest import Rest
from wetread_embedded.runtime import Runtime
from wetread_embedded.store import Store

LOG = logging.getLogger(__name__)

CRASH_TRIES = 2
_TAKEN_FOR_DEAD = "is not healthy"  # what Triton says of a model's process, whether it lives or not
PORT_TRIES = 5  # a free port may be taken between our look and the server's bind
_BIND_FAILED = (
    "already in use",
    "failed to start HTTP service",
    "failed to start GRPC service",
    "Address already in use",
)


class EmbeddedTriton:
    """Start a server with all pipelines of a checkout, keep it alive, stop it without a trace.

    Entering waits until every pipeline is ready. Raises the errors of `wetread_embedded.errors`.
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        self.config = config or ServerConfig()
        self.ports: tuple[int, int, int] = (0, 0, 0)
        self.pipelines: list[str] = []
        self._store: Store | None = None
        self._process: ServerProcess | None = None
        self._attendant: Attendant | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""
        return f"http://{self._reachable_host}:{self.ports[0]}"

    @property
    def grpc_url(self) -> str:
        """Where gRPC listens."""
        return f"grpc://{self._reachable_host}:{self.ports[1]}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads."""
        return f"http://{self._reachable_host}:{self.ports[2]}/metrics"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running.pid

    @property
    def rest(self) -> Rest:
        """The calls that load models and ask for readiness."""
        return Rest(self._reachable_host, self.ports[0], self.ports[1])

    @property
    def watched_pids(self) -> list[int]:
        """The process ids whose death the healer notices at once."""
        return list(self._attendant.watched_pids) if self._attendant is not None else []

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.exit_code is None

    @property
    def heals(self) -> list[Heal]:
        """What was healed so far, oldest first."""
        return list(self._attendant.heals) if self._attendant is not None else []

    def stub_pids(self) -> dict[str, list[int]]:
        """Return the process ids of the live stubs by model."""
        found: dict[str, list[int]] = {}
        assert self._store is not None
        for stub in stubs.find(self._store.prefix):
            found.setdefault(stub.model, []).append(stub.pid)
        return found

    def last_words(self) -> list[str]:
        """Return why models did not load, else the last lines of the log that tell of errors."""
        return self._running.failures()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has ended; return whether it has."""
        return self._running.ended.wait(timeout_s)

    def start(self) -> None:
        """Start the server and wait until its pipelines are ready."""
        check()
        runtime = Runtime.find()
        self._store = Store.open(self.config.store_dir, fresh=self.config.fresh)
        try:
            self._store.provide_backends(self.config.root, runtime)
            self._attendant = find_attendant(self.config, self._store)
            self._attendant.prepare()
            self._launch_whatever_loads(runtime, self._store, self._attendant)
            self._attendant.start(self.rest)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server; nothing of it stays, neither a process nor shared memory. May be called twice."""
        if self._attendant is not None:
            self._attendant.stop()
        if self._process is not None:
            self._process.stop(self.config.exit_timeout_s + 2.0)
        if self._store is not None:
            stubs.kill(self._store.prefix)
            if self._process is not None:  # only in the first stop: later its number may be somebody else's
                self._process.kill_group()
            shared_memory.remove(self._store.prefix)
            self._store.close()
            self._store = None

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            msg = "the server has not been started"
            raise RuntimeError(msg)
        return self._process

    @property
    def _reachable_host(self) -> str:
        return "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host  # noqa: S104 - read, not bound

    def _launch_whatever_loads(self, runtime: Runtime, store: Store, attendant: Attendant) -> None:
        """Launch the server; with other releases where the attendant has some in the place of those that fail."""
        while True:
            self.pipelines = store.pipelines
            try:
                self._launch_on_ports(runtime, store)
            except StartFailed as error:
                if not attendant.fall_back(str(error)):
                    raise
            else:
                return

    def _launch_on_ports(self, runtime: Runtime, store: Store) -> None:
        wanted = (self.config.http_port, self.config.grpc_port, self.config.metrics_port)
        for attempt in range(1, PORT_TRIES + 1):
            self.ports = _choose_ports(self.config.host, wanted)
            try:
                self._launch(runtime, store)
            except PortInUse:
                if 0 not in wanted or attempt == PORT_TRIES:
                    raise
            except StartCrashed as crash:
                if attempt == CRASH_TRIES:
                    raise
                LOG.warning("the server is started again: %s", crash)
                stubs.kill(store.prefix)
                shared_memory.remove(store.prefix)
            else:
                return

    def _launch(self, runtime: Runtime, store: Store) -> None:
        environment = server_environment(self.config, runtime, store)
        command = command_line(self.config, runtime, store, self.ports)
        config = self.config
        self._process = ServerProcess(command, environment, config.log_path, config.on_log, inherit=[store.lock_fd])
        try:
            self._await_ready(self._process)
        except BaseException:
            self._process.stop(config.exit_timeout_s + 2.0)
            raise

    def _await_ready(self, process: ServerProcess) -> None:
        rest = self.rest
        deadline = time.monotonic() + self.config.startup_timeout_s
        waiting = list(self.pipelines)
        while waiting:
            if process.ended.wait(0.02):
                self._explain_death(process)
            waiting = [pipeline for pipeline in waiting if not rest.is_ready(pipeline)]
            if waiting and time.monotonic() > deadline:
                msg = (
                    f"not ready after {self.config.startup_timeout_s:.0f} s: {', '.join(waiting)}\n"
                    + "\n".join(process.failures())
                    + f"\nthe log: {self.config.log_path}"
                )
                raise StartTimeout(msg)

    def _explain_death(self, process: ServerProcess) -> None:
        if any(sign in line for line in process.lines() for sign in _BIND_FAILED):
            msg = (
                f"one of the ports {self.ports} is in use: choose others with --http-port, --grpc-port, --metrics-port"
            )
            raise PortInUse(msg)
        reasons = "\n".join(process.failures())
        msg = f"the server ended with {process.exit_code} while starting\n{reasons}\nthe log: {self.config.log_path}"
        crashed = (process.exit_code or 0) < 0 or _TAKEN_FOR_DEAD in reasons
        raise StartCrashed(msg) if crashed else StartFailed(msg)


def server_environment(config: ServerConfig, runtime: Runtime, store: Store) -> dict[str, str]:
    """Return the environment of the server and its models: what `runtime` needs, and where they keep what they compile.

    Kernels of volume pipelines outlive the store: they are compiled once a machine, unless NUMBA_CACHE_DIR says where.
    """
    kept = {"WETREAD_MODEL_CACHE": str(store.cache)}
    return {"NUMBA_CACHE_DIR": str(config.state_dir / "kernels")} | runtime.environment() | kept


def command_line(config: ServerConfig, runtime: Runtime, store: Store, ports: tuple[int, int, int]) -> list[str]:
    """Return the command that starts the server on `ports` (HTTP, gRPC, metrics)."""
    return [
        str(runtime.server),
        f"--model-repository={store.models}",
        f"--model-repository={store.ensembles}",
        f"--backend-directory={store.backends}",
        "--model-control-mode=explicit",
        *(f"--load-model={pipeline}" for pipeline in store.pipelines),  # an ensemble brings its parts along
        "--disable-auto-complete-config",  # a stub more for each load, and config.pbtxt says it all
        "--strict-readiness=false",  # or one failed load makes the whole server unready for good
        f"--backend-config=python,shm-region-prefix-name={store.prefix}",
        f"--http-address={config.host}",
        f"--http-port={ports[0]}",
        f"--http-thread-count={config.http_threads}",
        f"--grpc-address={config.host}",
        f"--grpc-port={ports[1]}",
        f"--metrics-address={config.host}",
        f"--metrics-port={ports[2]}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",  # memory for GPUs
        f"--exit-timeout-secs={max(1, round(config.exit_timeout_s))}",
        f"--log-verbose={config.verbose}",
    ]


def _choose_ports(host: str, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the wanted ports with each 0 replaced by a free one; all are bound at once, so they differ."""
    with contextlib.ExitStack() as bound:
        ports = []
        for port in wanted:
            probe = bound.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a stopped server's port rests for a minute
            try:
                probe.bind((host, port))
            except OSError as error:
                msg = f"port {port} of {host} is in use: {error.strerror}"
                raise PortInUse(msg) from error
            ports.append(probe.getsockname()[1])
        return ports[0], ports[1], ports[2]
