"""The settings of one embedded server."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from wetread_embedded.heal import Heal


def find_checkout(start: Path | None = None) -> Path:
    """Return the nearest folder, from `start` (default: the working directory) upwards, that holds both repositories.

    Falls back to the checkout that this package was installed from in editable mode.

    Raises:
        FileNotFoundError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "model_repository").is_dir() and (folder / "ensembles").is_dir():
            return folder
    msg = f"no model_repository/ and ensembles/ in {here} or above: run inside a checkout of wetread"
    raise FileNotFoundError(msg)


@dataclass(frozen=True)
class ServerConfig:
    """Where an embedded server listens, what it serves and how long it may take."""

    http_port: int = 8000
    """TCP port of HTTP; 8000 is Triton's own default. 0: a free one, chosen at the start."""

    grpc_port: int = 8001
    """TCP port of gRPC; Triton's default is 8001. 0: a free one."""

    metrics_port: int = 8002
    """TCP port of the Prometheus metrics; Triton's default is 8002. 0: a free one."""

    agent_port: int = 0
    """TCP port of the release agent's probes and metrics. Default 0: none."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback: this server version has known vulnerabilities."""

    root: Path = field(default_factory=find_checkout)
    """Folder that holds `model_repository/`, `ensembles/` and the backends `<name>_backend/`; never written to."""

    store: Path | None = None
    """Folder of the served copies, the log and the model cache. Default: `build/state/served` under `root`."""

    state: Path | None = None
    """Folder with `releases/`, `rollout/` and `keys/`, which the release agent follows. Default: the store's parent."""

    releases: str = ""
    """Address of published releases, a folder or fsspec URL. Default: `releases` in the state folder."""

    rollouts: str = ""
    """Address of the rollout store, a folder or etcd://host:port/prefix. Default: `rollout` in the state folder."""

    keys: Path | None = None
    """Folder with `trusted/*.pem`, whose releases are served. Default: `keys` in the state folder."""

    fresh: bool = False
    """Empty the store first, the cache of compiled models included. Default off: the cache makes starts quick.
    Published releases and the rollout lie outside the store and stay."""

    log_file: Path | None = None
    """File of the server's log, begun anew at each start. Default: `tritonserver.log` in the store."""

    on_log: Callable[[str], None] | None = None
    """Called with each line of the server's log, in a thread of its own. Default: the file alone."""

    on_heal: Callable[[Heal], None] | None = None
    """Called after each attempt to bring a model back, in the healer's thread. Default: the log of Python alone."""

    verbose: int = 0
    """Triton's own log level, 0 to 2. Default 0: its verbose log costs throughput."""

    startup_timeout_s: float = 120.0
    """Seconds until all pipelines must be ready. It takes 1-5 s, several times that on a busy machine."""

    exit_timeout_s: float = 5.0
    """Seconds for requests in flight and for the models' own ends, which take 3-4. Triton uses all of it while a client
    keeps an idle HTTP connection, and with a dead stub, so it is not longer."""

    http_threads: int = 4
    """HTTP threads. Two a core: one connection lives on one thread, and an upload of 8 MB blocks it for a while."""

    heal: bool = True
    """Bring back the processes of models that died. Off only to look at a corpse."""

    canary_interval_s: float = 5.0
    """Seconds between two canary inferences of a model. They find what a process id cannot tell, which is rare."""

    def __post_init__(self) -> None:
        for name in ("http_port", "grpc_port", "metrics_port", "agent_port"):
            port = getattr(self, name)
            if not 0 <= port <= 65535:
                msg = f"{name} must be between 0 and 65535, is {port}"
                raise ValueError(msg)
        for name in ("startup_timeout_s", "exit_timeout_s", "canary_interval_s", "http_threads"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be above 0, is {getattr(self, name)}"
                raise ValueError(msg)

    @classmethod
    def on_free_ports(cls, **settings: object) -> Self:
        """Return a configuration whose three ports are chosen at the start: for tests, and for several servers."""
        return cls(**{"http_port": 0, "grpc_port": 0, "metrics_port": 0, **settings})  # type: ignore[arg-type]

    @property
    def store_dir(self) -> Path:
        """The store in use."""
        return (self.store or self.root / "build" / "state" / "served").resolve()

    @property
    def state_dir(self) -> Path:
        """The state folder in use."""
        return (self.state or self.store_dir.parent).resolve()

    @property
    def log_path(self) -> Path:
        """The log in use."""
        return self.log_file or self.store_dir / "tritonserver.log"
