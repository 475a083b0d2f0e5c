"""A release that makes no heatmap and tells no novelty takes over under a reading client, and gives way again."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from second_release import APPROVED, CHECKOUT, release_command
from waiting import wait_for
from wetread_client import Client, Reading, Retry, WetreadError
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_models.synthetic import FilmModel
from wetread_release.checkout import shipped_pipeline
from wetread_release.film_pipeline import SHIPPED, film_draft
from wetread_release.golden import film_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.triton, pytest.mark.full]


def write_lean(draft: Path) -> None:
    """Make a draft of the shipped pipeline that only says what is probable."""
    shipped_pipeline(CHECKOUT, "chest_xray").lay_out(draft)
    film_draft("chest_xray", replace(SHIPPED["chest_xray"], activation=None, features=None)).save(draft)
    document = draft / "parts" / "postprocess" / "pipeline.json"
    content = json.loads(document.read_bytes())
    del content["novelty"]
    for finding in content["findings"]:
        del finding["heatmap_scale"]
    document.write_text(json.dumps(content))


class Caller:
    """Reads one film after the other with a client that tries each once."""

    def __init__(self, client: Client, film: bytes) -> None:
        self._client, self._film = client, film
        self.readings: list[Reading] = []
        self.errors: list[WetreadError] = []

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.readings.append(self._client.read(self._film))
            except WetreadError as error:
                self.errors.append(error)

    def last(self) -> int:
        return self.readings[-1].release if self.readings else 0


@contextmanager
def calling(url: str, way: str, film: bytes) -> Iterator[Caller]:
    stop = threading.Event()
    with Client(url, transport=way, retry=Retry(times=0)) as client:
        caller = Caller(client, film)
        thread = threading.Thread(target=caller.run, args=(stop,))
        thread.start()
        try:
            yield caller
        finally:
            stop.set()
            thread.join()


def test_no_reading_fails_and_each_has_what_its_release_makes(tmp_path: Path):
    state, draft = tmp_path / "state", tmp_path / "draft"
    write_lean(draft)
    film = FilmModel.load(film_model(CHECKOUT)).dicom(1, "pneumonia", 512, 512)
    config = ServerConfig.on_free_ports(root=CHECKOUT, store=state / "served", state=state)
    with (
        EmbeddedTriton(config) as server,
        calling(server.http_url, "shm", film) as beside,
        calling(server.http_url, "http", film) as far,
        calling(server.grpc_url, "grpc", film) as over_grpc,
    ):
        callers = (beside, far, over_grpc)
        release_command(state, "publish", draft, "--force", "it makes no heatmap")
        for words, release in ((["promote"], 2), (["rollback"], 1), (["rollback", "--to", 2], 2)):
            release_command(state, *words, "chest_xray", *APPROVED)
            for caller in callers:
                assert wait_for(lambda caller=caller, release=release: caller.last() == release)
    for caller in callers:
        assert caller.errors == []
        assert {reading.release for reading in caller.readings} == {1, 2}
        for reading in caller.readings:
            is_lean = reading.release == 2
            assert (reading.heatmap is None, reading.novelty is None) == (is_lean, is_lean)
