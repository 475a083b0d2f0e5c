"""A fake of one Triton server, in process, as its release agent sees it: model control, readiness and answers.

A fake proves nothing about Triton. Its rules are what was tried on the real server, and the same cases run against the
real one in tests/triton/test_release_agent.py:

- A load is all or nothing: if a version fails, everything that was ready before still is.
- A load reads config.pbtxt and brings in the versions of its version_policy. A version whose folder is missing is left
  out. A load without a change does nothing.
- A change of the version policy or the instance group keeps the versions that are loaded. Any other change of
  config.pbtxt loads all versions anew.
- An ensemble loads its parts, too, and is ready only while the versions that it pins are.
- A version answers with the files that it was loaded with, whatever becomes of them on disk.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime
from google.protobuf import text_format
from tiny_release import probability
from tritonclient.grpc import model_config_pb2
from wetread_client.errors import Status, Unavailable, WetreadError
from wetread_client.notes import Notes
from wetread_client.reading import Finding, Reading
from wetread_client.rollout import open_store
from wetread_release.agent.agent import Agent, AgentSettings
from wetread_release.agent.carry_out import CarryOut
from wetread_release.agent.check import GoldenCheck
from wetread_release.agent.control import Control
from wetread_release.agent.record import Record
from wetread_release.agent.served import CONFIG, ServedCopy, read_text
from wetread_release.agent.source import Source
from wetread_release.agent.start import Start
from wetread_release.agent.swap import Swap
from wetread_release.device import CPU_TARGET, cpu_device
from wetread_release.errors import ServeFailed
from wetread_release.places import Places
from wetread_release.registries import open_registry

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from tiny_release import TinySite
    from wetread_release.manifest import Golden


class LoadError(Exception):
    """Triton's own words on why a load failed."""


@dataclass(frozen=True)
class FileConfig:
    """What a config.pbtxt says, as far as the fake follows it."""

    name: str
    backend: str
    model_file: str
    image: tuple[int, ...]
    """Dimensions of the first input without the batch."""
    max_batch_size: int
    pins: tuple[tuple[str, int], ...]
    """Model and version of each step of an ensemble; a component has none."""
    specific: frozenset[int]
    """The versions of the policy `specific`; empty: the policy is another one."""
    latest: int
    """How many of the newest versions are served otherwise; 0: all."""
    lasting: bytes
    """All that cannot change without a load of every version anew."""

    @classmethod
    def parse(cls, path: Path) -> Self:
        """Read a file; LoadError where it is none."""
        try:
            message = text_format.Parse(read_text(path) or "", model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            raise LoadError(f"failed to read text proto from {path}: {error}") from error
        policy = message.version_policy
        specific, latest = frozenset(policy.specific.versions), max(1, policy.latest.num_versions)
        everything = policy.HasField("all")
        message.ClearField("version_policy")
        message.ClearField("instance_group")
        return cls(
            name=message.name,
            backend=message.backend,
            model_file=message.default_model_filename or "model.onnx",
            image=tuple(message.input[0].dims),
            max_batch_size=message.max_batch_size,
            pins=tuple((step.model_name, step.model_version) for step in message.ensemble_scheduling.step),
            specific=specific,
            latest=0 if everything else latest,
            lasting=message.SerializeToString(deterministic=True),
        )

    def served(self, folder: Path) -> list[int]:
        """Return the versions in a model's folder that the policy names."""
        there = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        if self.specific:
            return [version for version in there if version in self.specific]
        return there[-self.latest :]


@dataclass(frozen=True)
class Preprocessing:
    """A recipe, as far as it shapes the image."""

    size: tuple[int, int]

    @classmethod
    def load(cls, folder: Path, config: FileConfig) -> Self:
        """Read recipe.json."""
        rows, columns = json.loads((folder / "recipe.json").read_text())["size"]
        return cls((rows, columns))

    def image(self) -> NDArray[np.float32]:
        """Return the image of any film: the tiny models answer the same whatever it shows."""
        return np.zeros((1, 1, *self.size), np.float32)


@dataclass(frozen=True)
class Network:
    """A model in ONNX Runtime."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, folder: Path, config: FileConfig) -> Self:
        """Open the model; ValueError where config.pbtxt names another size of image."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(
            (folder / config.model_file).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        _, *wanted = session.get_inputs()[0].shape
        if tuple(wanted) != config.image:
            raise ValueError(f"{config.model_file} takes {wanted}, config.pbtxt says {list(config.image)}")
        return cls(session)

    def logits(self, image: NDArray[np.float32]) -> list[float]:
        """Return one logit for each finding."""
        (logits,) = self.session.run(["LOGITS"], {"IMAGE": image})
        return [float(logit) for logit in logits[0]]


@dataclass(frozen=True)
class Postprocessing:
    """The findings of pipeline.json: label, temperature and threshold of each."""

    findings: tuple[tuple[str, float, float], ...]

    @classmethod
    def load(cls, folder: Path, config: FileConfig) -> Self:
        """Read pipeline.json."""
        findings = json.loads((folder / "pipeline.json").read_text())["findings"]
        return cls(tuple((each["label"], each["temperature"], each["threshold"]) for each in findings))

    def read(self, logits: list[float]) -> tuple[Finding, ...]:
        """Return the findings of one film."""
        return tuple(
            Finding(label, value := probability(logit / temperature), value >= threshold)
            for (label, temperature, threshold), logit in zip(self.findings, logits, strict=True)
        )


_BACKENDS: dict[str, type[Preprocessing | Network | Postprocessing]] = {
    "wetread_preprocess": Preprocessing,
    "onnxruntime": Network,
    "wetread_postprocess": Postprocessing,
}


@dataclass(frozen=True)
class LoadedVersion:
    """One version in memory; of an ensemble, there is no part."""

    part: Preprocessing | Network | Postprocessing | None = None
    files: tuple[tuple[str, int], ...] = ()
    """Name and time of change (ns) of what it was loaded from."""


@dataclass(frozen=True)
class LoadedModel:
    """A component or an ensemble."""

    config: FileConfig
    versions: dict[int, LoadedVersion]


@dataclass
class FakeTriton(Control):
    """Serves the repositories of one served copy."""

    served: ServedCopy
    loads: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each version of a component was loaded."""
    outages: list[str] = field(default_factory=list)
    """Ensembles that stopped answering because a version that they pin went away."""

    def __post_init__(self) -> None:
        self._models: dict[str, LoadedModel] = {}
        self._down: set[str] = set()
        self._lock = threading.RLock()

    def start(self) -> str:
        """Load every ensemble, as a server's start does; return why some did not load, a line each."""
        failures = []
        for config in sorted(self.served.ensembles.glob(f"*/{CONFIG}")):
            try:
                self.load(config.parent.name)
            except ServeFailed as error:
                failures.append(str(error))
        return "\n".join(failures)

    def load(self, model: str) -> None:
        """Load a model whose files changed; ServeFailed where it does not, and then all is as it was."""
        with self._lock:
            try:
                self._load(model)
            except LoadError as error:
                raise ServeFailed(f"{model} does not load: {error}") from error

    def unload(self, model: str) -> None:
        """Unload a model, and nothing that it needs."""
        with self._lock:
            self._models.pop(model, None)
            self._down.discard(model)
            self._find_outages()

    def is_ready(self, model: str, version: int) -> bool:
        """Tell whether this version answers."""
        with self._lock:
            return model not in self._down and model in self._models and version in self._models[model].versions

    def is_loaded(self, model: str) -> bool:
        """Tell whether a model is there, ready or not."""
        return model in self._models

    def is_live(self) -> bool:
        """Tell that the server can be reached: a fake that was stopped is not asked any more."""
        return True

    def read(self, pipeline: str) -> Reading:
        """Return the reading of any film; Unavailable where the pipeline is not ready."""
        with self._lock:
            if pipeline not in self._models or pipeline in self._down:
                raise Unavailable(Status.UNAVAILABLE, f"{pipeline} is not ready")
            ensemble = self._models[pipeline]
            parts = [self._models[name].versions[version].part for name, version in ensemble.config.pins]
        preprocessing, network, postprocessing = parts
        assert isinstance(preprocessing, Preprocessing)
        assert isinstance(network, Network)
        assert isinstance(postprocessing, Postprocessing)
        findings = postprocessing.read(network.logits(preprocessing.image()))
        return Reading(pipeline, max(ensemble.versions), findings, novelty=None, heatmap=None, notes=Notes(), ms=0.0)

    def _load(self, name: str) -> None:
        folder = self._folder(name)
        config = FileConfig.parse(folder / CONFIG)
        for part in dict(config.pins):
            self._load(part)
        self._check_pins(config)
        before = self._models.get(name)
        kept = before.versions if before and before.config.lasting == config.lasting else {}
        versions = {version: self._version(folder, config, version, kept) for version in config.served(folder)}
        if not versions:
            raise LoadError(f"at least one version must be available under the version policy of model '{name}'")
        self._models[name] = LoadedModel(config, versions)
        self._down.discard(name)
        self._find_outages()

    def _folder(self, name: str) -> Path:
        for repository in (self.served.models, self.served.ensembles):
            if (repository / name / CONFIG).is_file():
                return repository / name
        raise LoadError(f"failed to load '{name}', failed to poll from model repository")

    def _version(self, folder: Path, config: FileConfig, version: int, kept: dict[int, LoadedVersion]) -> LoadedVersion:
        if config.pins:
            return LoadedVersion()
        files = _files(folder / str(version))
        held = kept.get(version)
        if held is not None and held.files == files:
            return held
        try:
            part = _BACKENDS[config.backend].load(folder / str(version), config)
        except Exception as error:  # whatever a backend raises is a load that failed
            raise LoadError(f"failed to load '{config.name}' version {version}: Internal: {error}") from error
        self.loads[config.name, version] += 1
        return LoadedVersion(part, files)

    def _check_pins(self, config: FileConfig) -> None:
        for name, version in config.pins:
            if not self.is_ready(name, version):
                raise LoadError(
                    f"ensemble '{config.name}' depends on '{name}' whose required version {version} is not loaded"
                )
            if self._models[name].config.max_batch_size < config.max_batch_size:
                raise LoadError(f"ensemble '{config.name}' allows larger batches than its step '{name}'")

    def _find_outages(self) -> None:
        """Take down and bring back ensembles by whether what they pin is ready."""
        for name, model in self._models.items():
            try:
                self._check_pins(model.config)
            except LoadError:
                if name not in self._down:
                    self.outages.append(name)
                self._down.add(name)
            else:
                self._down.discard(name)


class FakeGoldenCheck(GoldenCheck):
    """The agent's golden check, but for the HTTP request: the fake is asked instead."""

    def __init__(self, triton: FakeTriton, root: Path, shelf: Path, device: str) -> None:
        super().__init__("", root, shelf, device)
        self._triton = triton

    def readings(self, ensemble: str, golden: Golden) -> list[Reading]:
        """Return the same answer for each golden film: the tiny models give one whatever they are shown."""
        try:
            return [self._triton.read(ensemble) for _ in golden.films]
        except WetreadError as error:
            raise ServeFailed(f"golden films were not read: {error}") from error


class FakeServer:
    """A fake Triton with a real release agent, from `prepare` to its stop; wired as `agent.attend` does it."""

    def __init__(self, tiny: TinySite, name: str = "served") -> None:
        self.name, self.url = name, f"http://{name}"
        self._tiny, self._places = tiny, Places(tiny.state)
        self.store = tiny.folder / name
        self.served = ServedCopy(self.store / "model_repository", self.store / "ensembles")
        self.triton = FakeTriton(self.served)
        self._agent: Agent | None = None

    def __enter__(self) -> Self:
        rollouts, record = open_store(self._places.rollouts_url), Record.load(self.store / "agent.json")
        registry, trusted = open_registry(self._places.registry_url), self._places.keys_folder / "trusted"
        source = Source(registry, trusted, self.store / "manifests", self.store)
        start = Start(self._tiny.root, self.served, source, rollouts, record, CPU_TARGET)
        start.prepare()
        self._launch_whatever_loads(start)
        swap = Swap(self.served, self.triton, CPU_TARGET)
        check = FakeGoldenCheck(self.triton, self._tiny.root, self.store / "golden", cpu_device())
        carry_out = CarryOut(self.served, source, swap, self.triton, record, CPU_TARGET, check)
        settings = AgentSettings(self.name, CPU_TARGET, cpu_device(), self.url, drain_s=0.0)
        self._agent = Agent(settings, rollouts, carry_out, threading.Lock(), start.begun)
        self._agent.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._agent is not None:
            self._agent.stop()

    def answer(self, model: str) -> tuple[int, float]:
        """Return the release that a pipeline answers with, and the probability of its first finding."""
        reading = self.triton.read(model)
        return reading.release, reading.findings[0].probability

    def lacks(self, ensemble: str) -> bool:
        """Tell whether an ensemble is neither in the served copy nor loaded."""
        return self.served.ensemble_text(ensemble) is None and not self.triton.is_loaded(ensemble)

    def _launch_whatever_loads(self, start: Start) -> None:
        """Start as `EmbeddedTriton` does: with other releases where there are some in the place of those that fail."""
        while reasons := self.triton.start():
            if not start.fall_back(reasons):
                raise ServeFailed(reasons)
            self.triton = FakeTriton(self.served)


def _files(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple((path.name, path.stat().st_mtime_ns) for path in (folder, *sorted(folder.iterdir())))
