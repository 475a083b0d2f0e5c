"""A site with one tiny film pipeline that loads in moments, and drafts of it that answer differently."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from wetread_embedded import ServerConfig
from wetread_models.synthetic import FilmModel
from wetread_release.digest import file_digest
from wetread_release.draft import Draft, content_digest
from wetread_release.film_pipeline import FilmSpec, film_draft
from wetread_release.golden import golden_seeds
from wetread_release.triton_config import TensorConfig

CHECKOUT = Path(__file__).parents[1]
SHIPPED = CHECKOUT / "model_repository"
FILM_MODEL = SHIPPED / "chest_xray_classifier" / "synthetic_films.npz"
PIPELINE = "tiny"
SIDE = 16


def spec(side: int = SIDE) -> FilmSpec:
    return FilmSpec(TensorConfig("IMAGE", "FP32", (1, side, side)), TensorConfig("LOGITS", "FP32", (1,)), 1)


class TinySite:
    """`root` ships the pipeline as release 1, with logit 0; `state` is where releases and rollouts lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.state = folder / "root", folder / "state"
        for backend in ("preprocess_backend", "postprocess_backend"):
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / backend).symlink_to(CHECKOUT / backend)
        draft = self._draft(spec())
        ensemble = self.root / "ensembles" / PIPELINE
        (ensemble / "1").mkdir(parents=True)
        pins = {part.role: (part.config.name, 1) for part in draft.parts}
        (ensemble / "config.pbtxt").write_text(draft.wiring.ensemble(PIPELINE, 1, pins).text())
        draft.save(ensemble)
        for part in draft.parts:
            model = self.root / "model_repository" / part.config.name
            model.mkdir(parents=True)
            (model / "config.pbtxt").write_text(replace(part.config, versions=(1,)).text())
            self._fill(model / "1", part.role, 0.0, SIDE)
        shutil.copyfile(FILM_MODEL, self.root / "model_repository" / f"{PIPELINE}_classifier" / FILM_MODEL.name)
        self.film = FilmModel.load(FILM_MODEL).dicom(1, "normal", 64, 64)

    def config(self, name: str = "served", **settings: object) -> ServerConfig:
        told = {"root": self.root, "store": self.folder / name, "state": self.state, "exit_timeout_s": 1.0}
        return ServerConfig.on_free_ports(**{**told, **settings})

    def draft(self, logit: float, *, side: int = SIDE, name: str = "") -> Path:
        """Leave a draft that answers every film with this logit."""
        folder = self.folder / "drafts" / (name or f"logit{logit}-{side}")
        shutil.rmtree(folder, ignore_errors=True)
        draft = self._draft(spec(side))
        for part in draft.parts:
            self._fill(folder / "parts" / part.folder, part.role, logit, side)
        draft.save(folder)
        return folder

    def record_golden(self, folder: Path, logits: list[float], device: str) -> None:
        """Write what a gate would: golden answers, and a passed record."""
        probabilities = [[probability(logit)] for logit in logits]
        golden = {
            "films": golden_seeds(),
            "film_model": file_digest(FILM_MODEL),
            "records": [
                {
                    "engine": "onnxruntime",
                    "device": device,
                    "probabilities": probabilities,
                    "positive": [[p >= 0.5 for p in row] for row in probabilities],
                }
            ],
        }
        gate = folder / "gate"
        gate.mkdir(exist_ok=True)
        (gate / "golden.json").write_text(json.dumps(golden))
        summary: dict[str, object] = {
            "engine": "onnxruntime",
            "precision": "fp32",
            "device": device,
            "target": "cpu",
            "passed": True,
        }
        summary["figures"] = {}
        record = {"content": content_digest(folder, Draft.load(folder)), "summary": summary}
        (gate / f"onnxruntime-{device}.json").write_text(json.dumps(record))

    def _draft(self, film: FilmSpec) -> Draft:
        draft = film_draft(PIPELINE, film)
        parts = tuple(replace(part, config=replace(part.config, instances=1)) for part in draft.parts)
        return replace(draft, parts=parts)

    def _fill(self, version: Path, role: str, logit: float, side: int) -> None:
        version.mkdir(parents=True)
        if role == "preprocess":
            recipe = json.loads((SHIPPED / "chest_xray_preprocess" / "1" / "recipe.json").read_text())
            (version / "recipe.json").write_text(json.dumps(recipe | {"size": [side, side], "min_side": 8}))
        elif role == "classifier":
            onnx.save(constant_model(logit, side), version / "model.onnx")
        else:
            card = json.loads((SHIPPED / "chest_xray_postprocess" / "1" / "pipeline.json").read_text())
            finding = {**card["findings"][0], "threshold": 0.5, "temperature": 1.0}
            finding.pop("heatmap_scale")
            card.pop("novelty")
            (version / "pipeline.json").write_text(json.dumps(card | {"pipeline": PIPELINE, "findings": [finding]}))


def constant_model(logit: float, side: int = SIDE) -> onnx.ModelProto:
    """Return a model whose LOGITS are `logit` whatever IMAGE is."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["IMAGE", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "logit"], ["LOGITS"]),
        ],
        "constant",
        [helper.make_tensor_value_info("IMAGE", TensorProto.FLOAT, ["batch", 1, side, side])],
        [helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([logit], np.float32), "logit"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def probability(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
