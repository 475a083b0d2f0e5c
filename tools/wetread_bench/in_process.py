"""The whole path in one process without a server: a worker of the limit."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wetread_postprocess import Postprocessor
from wetread_preprocess import Film, FilmPreprocessor

from wetread_bench.worker import obey

OUTPUTS = ("LOGITS", "ACTIVATION", "FEATURES")
ONNX_BACKEND = Path("embedded") / "backends" / "onnxruntime"
Answer = dict[str, npt.NDArray[np.float32]]


@dataclass
class Stages:
    """Seconds spent in each stage, and CPU seconds of this process: the decoding child's are not among them."""

    preprocess: float = 0.0
    classify: float = 0.0
    postprocess: float = 0.0
    preprocess_cpu: float = 0.0
    classify_cpu: float = 0.0
    postprocess_cpu: float = 0.0

    def add(self, stage: str, begun: tuple[float, float]) -> tuple[float, float]:
        """Charge the time since `begun` to a stage; return the present moment."""
        now = moment()
        setattr(self, stage, getattr(self, stage) + now[0] - begun[0])
        setattr(self, f"{stage}_cpu", getattr(self, f"{stage}_cpu") + now[1] - begun[1])
        return now


def moment() -> tuple[float, float]:
    """Seconds of the wall clock and of this process's CPU time."""
    return time.perf_counter(), time.process_time()


@dataclass
class Counts:
    """What was done within the window; `latencies_ms`: of each batch."""

    films: int = 0
    seconds: float = 0.0
    stages: Stages = field(default_factory=Stages)
    latencies_ms: list[float] = field(default_factory=list)


class InProcess:
    """Reads films by the same packages, model file and configuration as the server.

    `threads`: of one inference.
    """

    def __init__(self, checkout: Path, threads: int) -> None:
        models = checkout / "model_repository"
        self._preprocessor = FilmPreprocessor.load(models / "chest_xray_preprocess" / "1")
        self._postprocessor = Postprocessor.load(models / "chest_xray_postprocess" / "1")
        self._engine = _load_engine(checkout, models / "chest_xray_classifier", threads)
        self._films: list[npt.NDArray[np.uint8]] = []

    def load(self, files: list[str]) -> int:
        """Hold the files' bytes in memory."""
        self._films = [np.fromfile(file, np.uint8) for file in files]
        return len(self._films)

    def run(self, batch: int, start_at: float, seconds: float, warm_s: float, offset: int = 0) -> dict[str, Any]:
        """Read films in batches from `start_at` (monotonic); count those of the window after `warm_s`."""
        time.sleep(max(0.0, start_at - time.monotonic()))
        at = offset
        while time.monotonic() < start_at + warm_s:
            self._read(at, batch, Stages())
            at += batch
        counts = Counts()
        begun = before = time.perf_counter()
        while before - begun < seconds:
            self._read(at, batch, counts.stages)
            now = time.perf_counter()
            counts.latencies_ms.append((now - before) * 1e3)
            before = now
            at += batch
            counts.films += batch
        counts.seconds = before - begun
        return {**vars(counts), "stages": vars(counts.stages)}

    def probabilities(self) -> list[float]:
        """The probability of each film."""
        return [float(self._read(at, 1, Stages())[0]) for at in range(len(self._films))]

    def _read(self, at: int, batch: int, stages: Stages) -> list[float]:
        begun = moment()
        films: list[Film] = [
            self._preprocessor.read(self._films[index % len(self._films)]) for index in range(at, at + batch)
        ]
        images = np.stack([film.image for film in films]) if batch > 1 else films[0].image[None]
        begun = stages.add("preprocess", begun)
        raw: Answer = self._engine.run({"IMAGE": images}, OUTPUTS)
        begun = stages.add("classify", begun)
        readings = [
            self._postprocessor.read(
                raw["LOGITS"][index], raw["ACTIVATION"][index], raw["FEATURES"][index], film.geometry
            )
            for index, film in enumerate(films)
        ]
        stages.add("postprocess", begun)
        return [float(reading.probability[0]) for reading in readings]


def engine_threads(checkout: Path) -> int:
    """How many threads one inference takes in the server, by the classifier's configuration."""
    parameter = _config(checkout).parameters["intra_op_thread_count"].string_value
    return int(parameter or 1) or 1


def _load_engine(checkout: Path, folder: Path, threads: int) -> Any:
    """Load the model as the server's stand-in backend does, which is a folder and no installed package."""
    from google.protobuf import json_format  # type: ignore[import-untyped]  # noqa: PLC0415

    sys.path.append(str(checkout / ONNX_BACKEND))
    from wetread_onnx import ModelSpec, load_engine  # noqa: PLC0415

    config = _config(checkout)
    config.parameters["intra_op_thread_count"].string_value = str(threads)
    spec = ModelSpec.from_json(json_format.MessageToJson(config, preserving_proto_field_name=True))
    return load_engine(folder / "1" / spec.model_filename, spec)


def _config(checkout: Path) -> Any:
    from google.protobuf import text_format  # noqa: PLC0415
    from tritonclient.grpc import model_config_pb2  # noqa: PLC0415

    text = (checkout / "model_repository" / "chest_xray_classifier" / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def main() -> None:
    """Be a worker. Arguments: checkout, threads."""
    reader = InProcess(Path(sys.argv[1]), int(sys.argv[2]))
    obey({"load": reader.load, "run": reader.run, "probabilities": reader.probabilities})


if __name__ == "__main__":
    main()
