"""The README's Python examples, run as they stand but for the ports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from wetread_client import Client
from wetread_models.synthetic import FilmModel

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("readme") / "film.dcm"
    model = FilmModel.load(ROOT / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
    path.write_bytes(model.dicom(7, "pneumonia"))
    return path


def test_the_readme_has_an_example_of_our_client_and_of_both_plain_ones():
    assert [re.findall(r"wetread_client|tritonclient\.\w+", example)[0] for example in EXAMPLES] == [
        "wetread_client",
        "tritonclient.http",
        "tritonclient.grpc",
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=["client", "http", "grpc"])
def test_an_example_prints_the_probability_that_the_client_reads(server, film, example):
    for port, url in ((8000, server.http_url), (8001, server.grpc_url)):
        example = example.replace(f"127.0.0.1:{port}", f"127.0.0.1:{urlsplit(url).port}")
    ran = subprocess.run([sys.executable, "-c", example], cwd=film.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    with Client(server.http_url) as client:
        (finding,) = client.read(film).findings
    printed = [float(number) for number in re.findall(r"\d\.\d+(?:e-\d+)?", ran.stdout)]
    assert any(number == pytest.approx(finding.probability, abs=1e-5) for number in printed), ran.stdout
