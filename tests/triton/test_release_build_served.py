"""Drafts that `build` makes, in a real Triton: engine, accelerators and instances as their configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from killed_triton import KilledTriton
from small_network import small_network
from tiny_release import FILM_MODEL, PIPELINE, TinySite
from wetread_models.quantise import Int8Options
from wetread_models.synthetic import FilmModel
from wetread_release.building.make import Wish, build
from wetread_release.draft import ANY_TARGET, Draft
from wetread_release.gate.lay_out import side_of_draft
from wetread_release.gate.server import serving
from wetread_release.places import Places
from wetread_release.release_site import Site

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.triton


def test_every_precision_is_served_and_nearly_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wetread_release.gate.server.EmbeddedTriton", KilledTriton)
    tiny = TinySite(tmp_path)
    site = Site.open(Places(tiny.state), tiny.root)
    network = small_network(tmp_path / "network.onnx")
    films = tmp_path / "films"
    films.mkdir()
    drawn = FilmModel.load(FILM_MODEL)
    for seed in range(16):
        (films / f"{seed}.dcm").write_bytes(drawn.dicom(seed, "normal", 64, 64))
    sides = []
    for precision in ("fp32", "fp16", "int8"):
        wish = Wish(
            PIPELINE,
            network,
            precision=None if precision == "fp32" else precision,
            calibration=films,
            accelerators=("tensorrt", "cuda", "openvino", "cpu"),
            int8=Int8Options(calibration="minmax", float_share=0.0),
        )
        folder = build(site, wish, tmp_path / "drafts" / precision, tmp_path, lambda _what, _done, _all: None).folder
        sides.append(side_of_draft(folder, Draft.load(folder), ANY_TARGET, precision, precision))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    film = drawn.dicom(99, "normal", 64, 64)
    with serving(sides, tiny.root, scratch, 120.0) as server:
        read = {side.name: server.read(side, film).findings[0].probability for side in server.sides}
    assert read["fp16"] == pytest.approx(read["fp32"], abs=0.01)
    assert read["int8"] == pytest.approx(read["fp32"], abs=0.05)
    assert read["int8"] != read["fp32"]
