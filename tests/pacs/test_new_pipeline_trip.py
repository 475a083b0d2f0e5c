"""From somebody else's ONNX file to a report in the PACS: the commands of docs/bring-your-own-model.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import numpy as np
import onnxruntime
import pytest
from films import to_bytes
from foreign_models import foreign_classifier
from sent_films import Film, await_objects, await_true, captures, container, of_kind, rows, sources, uid
from typer.testing import CliRunner
from wetread_bench.orthanc import missing
from wetread_client import Client
from wetread_gateway.state.tables import WORKS
from wetread_preprocess import FilmPreprocessor
from wetread_release.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from kept_alive import KeptAlive

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

NEW = (
    "new knee {model} --modality DX --body-part KNEE --labels normal,fracture,effusion --background normal "
    "--values imagenet --codes {codes} --state-dir {state}"
)
GATE = "gate {draft} --times 4 --state-dir {state}"
PUBLISH = "publish {draft} --reason first --state-dir {state}"
PROMOTE = "promote knee --approved-by Somebody --reason tried --state-dir {state}"
CODES = """{
  "fracture": [{"scheme": "99TEST", "value": "F1", "meaning": "Broken in a test"}],
  "effusion": [{"scheme": "99TEST", "value": "E1", "meaning": "Effusion in a test"}]
}"""


@pytest.fixture(scope="module")
def state(release_server: KeptAlive) -> Path:
    return release_server.config.state


@pytest.fixture(scope="module")
def served(release_server: KeptAlive, state: Path) -> KeptAlive:
    """A running server that knew nothing of the pipeline when it started, and serves it now."""
    (state / "mine.onnx").write_bytes(foreign_classifier().SerializeToString())
    (state / "codes.json").write_text(CODES)
    places = {
        "model": state / "mine.onnx", "codes": state / "codes.json", "state": state, "draft": state / "drafts" / "knee",
    }  # fmt: skip
    for command in (NEW, GATE, PUBLISH, PROMOTE):
        result = CliRunner().invoke(app, command.format(**places).split())
        assert result.exit_code == 0, result.output + result.stderr
    # The commands wait for servers that run. This one may be starting again, and loads the release then.
    assert await_true(lambda: is_ready(release_server))
    return release_server


def is_ready(server: KeptAlive) -> bool:
    """Whether the pipeline is served now."""
    try:
        return httpx.get(f"{server.http_url}/v2/models/knee/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def knee(picture: int) -> tuple[Film, bytes]:
    film = Film(uid(), uid(), patient=f"KNEE{picture}", picture=picture)
    dataset = film.dataset()
    dataset.BodyPartExamined = "KNEE"
    return film, to_bytes(dataset)


def expected(state: Path, dicom: bytes) -> np.ndarray:
    """What the maker's own file says of the findings."""
    with FilmPreprocessor.load(state / "drafts" / "knee" / "parts" / "preprocess") as preprocessor:
        image = preprocessor.read(dicom).image
    return onnxruntime.InferenceSession(state / "mine.onnx").run(None, {"input": image[None]})[0][0][1:]


def test_a_client_reads_by_the_promoted_release(served, state):
    _, dicom = knee(1)
    with Client(served.http_url, "knee") as client:
        reading = client.read(dicom)
    assert reading.release == 1
    got = [finding.probability for finding in reading.findings]
    np.testing.assert_allclose(got, expected(state, dicom), atol=2e-5)


def test_the_pipeline_that_was_there_is_served_on(served):
    film, dicom = knee(2)
    with Client(served.http_url, "chest_xray") as client:
        assert client.read(dicom, any_body_part=True).release == 1
    assert film.patient == "KNEE2"


def test_a_film_comes_back_as_a_report_with_the_makers_findings(served, release_hospital, state, tmp_path):
    hospital = release_hospital
    film, dicom = knee(3)
    path = tmp_path / "knee.dcm"
    path.write_bytes(dicom)
    assert hospital.storescu([path]) == 0
    found = await_objects(hospital, film.study, 2)
    (report,) = of_kind(found, "SR")
    assert sources(report) == {film.sop}
    text = report.to_json()
    for code in ("F1", "E1", "99TEST", "Broken in a test"):
        assert code in text
    for probability in expected(state, dicom):
        assert f"{probability:.4f}"[:-1] in text
    assert "126010" in container(report)
    (capture,) = captures(found)
    assert capture.PatientID == film.patient
    assert await_true(lambda: [work.state for work in rows(hospital, WORKS, film.study)] == ["finished"])
