"""A site with pipelines of series whose slots are filled with small models, and a plain client of it."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import tritonclient.grpc
from kept_alive import KeptAlive
from series_files import series_files
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.slots import PLACEHOLDER
from wetread_release.draft import Draft
from wetread_release.triton_config import TensorConfig
from wetread_release.volume_pipeline import VOLUME, VolumeSpec, volume_draft

CHECKOUT = Path(__file__).parents[1]
SHIPPED = CHECKOUT / "model_repository"
"""Compiled once for all tests."""
SEGMENTER = VolumeSpec("segmenter", VOLUME, TensorConfig("LOGITS", "FP32", (3, -1, -1, -1)))
CLASSIFIER = VolumeSpec("classifier", VOLUME, TensorConfig("LOGITS", "FP32", (-1,)))


@dataclass(frozen=True)
class Filling:
    """One pipeline: what it is like, its model, and what its documents say otherwise than the shipped ones."""

    name: str
    like: str
    spec: VolumeSpec
    model: onnx.ModelProto | Path | None
    """None: the slot stays empty."""
    recipe: dict[str, object] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=dict)
    queue_delay_us: int = 0
    """Of the model: how long it waits for more volumes of a size."""


class VolumeSite:
    """`root` ships the fillings as release 1; `state` is where releases and rollouts lie."""

    def __init__(self, folder: Path, fillings: Sequence[Filling]) -> None:
        self.folder = folder
        self.root, self.state = folder / "root", folder / "state"
        for backend in ("preprocess_backend", "postprocess_backend"):
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / backend).symlink_to(CHECKOUT / backend)
        for repository in ("ensembles", "model_repository"):
            (self.root / repository).mkdir()
        for filling in fillings:
            self._fill(filling)

    def ship_as_checkout(self, pipeline: str) -> None:
        """Ship a pipeline of the checkout, too."""
        parts = sorted(path.name for path in SHIPPED.glob(f"{pipeline}_*"))
        for shipped in (f"ensembles/{pipeline}", *(f"model_repository/{part}" for part in parts)):
            (self.root / shipped).symlink_to(CHECKOUT / shipped)

    @contextmanager
    def served(self, **settings: object) -> Iterator[KeptAlive]:
        """Serve it; kernels come from the cache that all tests share."""
        told = {"root": self.root, "store": self.folder / "served", "state": self.state, "exit_timeout_s": 2.0}
        told["startup_timeout_s"] = 240.0  # compiling the kernels, where nobody has, on a busy machine
        with KeptAlive(ServerConfig.on_free_ports(**{**told, **settings})) as server:
            yield server

    def version(self, name: str, role: str) -> Path:
        """The version folder of a part."""
        return self.root / "model_repository" / f"{name}_{role}" / "1"

    def _fill(self, filling: Filling) -> None:
        draft = self._draft(filling)
        ensemble = self.root / "ensembles" / filling.name
        (ensemble / "1").mkdir(parents=True)
        pins = {part.role: (part.config.name, 1) for part in draft.parts}
        (ensemble / "config.pbtxt").write_text(draft.wiring.ensemble(filling.name, 1, pins).text())
        draft.save(ensemble)
        for part in draft.parts:
            version = self.version(filling.name, part.role)
            version.mkdir(parents=True)
            (version.parent / "config.pbtxt").write_text(replace(part.config, versions=(1,)).text())
            if part.role == "preprocess":
                _write(version / "recipe.json", shipped_document(filling.like, "preprocess") | filling.recipe)
            elif part.role == "postprocess":
                card = shipped_document(filling.like, "postprocess") | filling.card
                _write(version / "pipeline.json", card | {"pipeline": filling.name})
            elif filling.model is None:
                (version / PLACEHOLDER).touch()
            elif isinstance(filling.model, Path):
                (version / "model.onnx").symlink_to(filling.model)
            else:
                onnx.save(filling.model, version / "model.onnx")

    def _draft(self, filling: Filling) -> Draft:
        draft = volume_draft(filling.name, filling.spec)
        parts = [
            replace(part, config=replace(part.config, queue_delay_us=filling.queue_delay_us))
            if part.config.dynamic_batching
            else part
            for part in draft.parts
        ]
        return replace(draft, parts=tuple(parts))


def shipped_document(pipeline: str, role: str) -> dict:
    """recipe.json or pipeline.json as it ships."""
    name = "recipe.json" if role == "preprocess" else "pipeline.json"
    return json.loads((SHIPPED / f"{pipeline}_{role}" / "1" / name).read_text())


def _write(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=2))


@dataclass(frozen=True)
class Sent:
    """A series as it is sent."""

    files: tuple[bytes, ...]

    @property
    def dicom(self) -> np.ndarray:
        return np.frombuffer(b"".join(self.files), np.uint8)

    @property
    def lengths(self) -> list[int]:
        return [len(file) for file in self.files]


def phantom(shape: tuple[int, int, int], seed: int = 0, *, modality: str = "MR", **options: object) -> Sent:
    """A bright ball in a grey ball, with a little noise, off-centre by the seed."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    offset = random.uniform(-0.2, 0.2, 3)
    distance = np.sqrt(sum((axis - shift) ** 2 for axis, shift in zip(axes, offset, strict=True)))
    values = np.select([distance < 0.4, distance < 0.8], [1000.0, 500.0], 0.0) + random.uniform(0, 60, shape)
    if modality == "CT":
        values -= 1000
    told = {"body_part": "BRAIN" if modality == "MR" else "CHEST"} | options
    return Sent(tuple(series_files(values.astype(np.int16), modality=modality, **told)))


class Asker:
    """A plain client of a server's gRPC port."""

    def __init__(self, server: EmbeddedTriton) -> None:
        self._client = tritonclient.grpc.InferenceServerClient(urlsplit(server.grpc_url).netloc)

    def ask(
        self,
        pipeline: str,
        sent: Sent,
        *,
        lengths: Sequence[int] | None = None,
        dicom: np.ndarray | None = None,
        outputs: Sequence[str] | None = None,
        **parameters: object,
    ) -> dict[str, np.ndarray]:
        """The outputs by name, without the batch; raises tritonclient's exception."""
        counts = np.array([sent.lengths if lengths is None else lengths], np.int64)
        content = (sent.dicom if dicom is None else dicom)[None]
        inputs = []
        for name, values, kind in (("DICOM", content, "UINT8"), ("LENGTHS", counts, "INT64")):
            tensor = tritonclient.grpc.InferInput(name, list(values.shape), kind)
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        wanted = outputs and [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
        answer = self._client.infer(pipeline, inputs, outputs=wanted, parameters=parameters or None)
        return {output.name: answer.as_numpy(output.name)[0] for output in answer.get_response().outputs}

    def together(self, pipeline: str, series: Sequence[Sent]) -> list[dict[str, np.ndarray]]:
        """Ask for all at once."""
        with ThreadPoolExecutor(len(series)) as pool:
            return list(pool.map(lambda sent: self.ask(pipeline, sent), series))

    def batches(self, model: str) -> dict[int, int]:
        """How many executions of each batch size Triton has counted."""
        [stats] = self._client.get_inference_statistics(model, as_json=True)["model_stats"]
        return {int(each["batch_size"]): int(each["compute_infer"]["count"]) for each in stats.get("batch_stats", [])}

    def close(self) -> None:
        self._client.close()


def notes(answer: dict[str, np.ndarray]) -> dict:
    """NOTES of an answer."""
    return json.loads(answer["NOTES"].tobytes())
