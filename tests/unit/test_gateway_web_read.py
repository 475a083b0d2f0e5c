"""Readings on request, a study's status and the metrics, with rows as the other stages write them."""

import threading
import time

import pytest
from sqlalchemy import insert, select, update
from web_door import STUDY, instance, open_door, settings_for
from wetread_client.card import Code
from wetread_gateway.reading.stored import Refusal, StoredFinding, StoredReading
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import DELIVERIES, INSTANCES, READINGS, STUDIES, WORKS
from wetread_gateway.web import read as read_route

DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture
def door(tmp_path):
    with open_door(settings_for(tmp_path)) as opened:
        yield opened


def reading(**changes) -> StoredReading:
    finding = StoredFinding("opacity", (Code("DCM", "112001", "Opacity"),), 0.75, True, 0.5)
    values = {
        "pipeline": "chest", "arm": "stable", "release": 3, "algorithm": "a", "manufacturer": "m",
        "read_at": time.time(), "findings": (finding,), "novelty": 0.4,
    }  # fmt: skip
    return StoredReading(**{**values, **changes})


def sort(context, name, sop_uid, state="sorted", reason="") -> int:
    """Do what triage does with an arrival."""
    path = context.spool.path_in(name, STUDY, "studies")
    with context.store.write() as connection:
        row = {
            "arrival": name, "path": path, "state": state, "reason": reason, "sop_uid": sop_uid, "sop_class": "1",
            "transfer_syntax": "1", "study_uid": STUDY, "series_uid": STUDY + ".1", "patient_digest": "",
            "modality": "DX", "calling_ae": "", "called_ae": "", "association": "", "door": "read", "stat": False,
            "received_at": time.time(),
        }  # fmt: skip
        number = connection.execute(insert(INSTANCES).values(row)).inserted_primary_key[0]
        note(connection, STUDY, "received", "received")
    context.spool.move(name, STUDY, "studies")
    return number


def finish(context, source: int, read: StoredReading | None, state="read", reason="") -> int:
    """Do what triage and the reader do with a sorted instance."""
    with context.store.write() as connection:
        row = {
            "kind": "read", "state": state, "study_uid": STUDY, "patient_digest": "", "sources": [source],
            "sources_digest": str(source), "number": 1, "pipeline": "chest", "arm": "stable", "rule": "r",
            "priority": 2, "destinations": [], "options": {}, "completeness": "single", "created_at": time.time(),
            "changed_at": time.time(), "reason": reason,
        }  # fmt: skip
        work = connection.execute(insert(WORKS).values(row)).inserted_primary_key[0]
        if read is not None:
            connection.execute(
                insert(READINGS).values(work_id=work, document=read.document(), heatmap=None, read_at=read.read_at)
            )
    context.ring("door")
    return work


class Gateway(threading.Thread):
    """The rest of the gateway: does `what` with the next arrival."""

    def __init__(self, context, what):
        super().__init__()
        self._context, self._what = context, what

    def run(self):
        bell = self._context.bell("triage")
        while not (found := self._context.spool.arrivals(1)):
            bell.wait(0.05)
        bell.close()
        self._what(found[0].name)


def ask(door, what, wait_s=120.0, **body):
    uid, data = instance()
    rest = Gateway(door.context, lambda name: what(name, uid))
    rest.start()
    kinds = body or {"content": data, "headers": DICOM}
    answer = door.client.post("/v1/read", params={"wait_s": wait_s}, **kinds)
    rest.join()
    return uid, answer


@pytest.mark.slow
def test_a_film_is_answered_with_its_reading_as_soon_as_the_door_is_rung(door, monkeypatch):
    def read(name, uid):
        finish(door.context, sort(door.context, name, uid), reading())

    monkeypatch.setattr(read_route, "_LOOK_S", 1e9)  # nobody looks but for the bell
    uid, answer = ask(door, read)
    assert answer.status_code == 200
    content = answer.json()
    (work,) = content["works"]
    assert (content["study_uid"], work["instance_uids"], work["reading"]["release"]) == (STUDY, [uid], 3)
    (finding,) = work["reading"]["findings"]
    assert (finding["label"], finding["probability"], finding["positive"]) == ("opacity", 0.75, True)
    assert finding["codes"] == [{"scheme": "DCM", "value": "112001", "meaning": "Opacity"}]
    assert "TEST^FILM" not in answer.text


@pytest.mark.slow
def test_outside_the_intended_use_nothing_is_called_positive(door):
    def read(name, uid):
        finish(door.context, sort(door.context, name, uid), reading(novelty=1.5))

    _, answer = ask(door, read)
    answered = answer.json()["works"][0]["reading"]
    assert "novelty 1.50" in answered["undetermined"][0]
    assert (answered["findings"][0]["probability"], answered["findings"][0]["positive"]) == (None, None)


@pytest.mark.slow
def test_a_release_that_tells_no_novelty_is_answered_with_none(door):
    def read(name, uid):
        finish(door.context, sort(door.context, name, uid), reading(novelty=None))

    _, answer = ask(door, read)
    answered = answer.json()["works"][0]["reading"]
    assert (answered["novelty"], answered["undetermined"], answered["findings"][0]["positive"]) == (None, [], True)


@pytest.mark.slow
def test_a_refused_film_is_422_with_the_pipelines_reason(door):
    def read(name, uid):
        refused = reading(findings=(), refusal=Refusal("UnsupportedImage", "colour"))
        finish(door.context, sort(door.context, name, uid), refused)

    _, answer = ask(door, read)
    assert answer.status_code == 422
    assert answer.json()["reasons"] == ["UnsupportedImage: colour"]


@pytest.mark.slow
def test_a_film_in_the_dead_letter_is_422(door):
    def read(name, uid):
        finish(door.context, sort(door.context, name, uid), None, "dead", "stubs died under it")

    _, answer = ask(door, read)
    assert (answer.status_code, answer.json()["detail"]) == (422, "stubs died under it")


@pytest.mark.slow
@pytest.mark.parametrize(("state", "status"), [("unmatched", 409), ("quarantined", 409), ("ignored", 422)])
def test_what_is_set_aside_is_said_with_the_reason(door, state, status):
    uid, answer = ask(door, lambda name, uid: sort(door.context, name, uid, state, "why"))
    assert answer.status_code == status
    assert answer.json()["reasons"] == [f"{uid}: why"]


@pytest.mark.slow
def test_a_duplicate_is_answered_with_the_reading_of_the_first(door):
    uid, data = instance()

    def first(name):
        finish(door.context, sort(door.context, name, uid), reading())

    for what in (first, lambda name: sort(door.context, name, uid, "duplicate")):
        rest = Gateway(door.context, what)
        rest.start()
        answer = door.client.post("/v1/read", content=data, headers=DICOM)
        rest.join()
        assert answer.status_code == 200
        assert len(answer.json()["works"]) == 1


@pytest.mark.slow
def test_when_the_time_is_over_the_answer_says_where_to_look(door):
    _, data = instance()
    answer = door.client.post("/v1/read", params={"wait_s": 0}, content=data, headers=DICOM)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/studies/{STUDY}")
    assert answer.json()["instances"][0]["state"] == "received"
    assert door.client.get(answer.headers["Location"]).json()["instances"] == {"received": 1}


@pytest.mark.slow
def test_a_form_is_taken_too_and_its_other_fields_left_alone(door):
    _, data = instance()
    answer = door.client.post(
        "/v1/read", params={"wait_s": 0}, files={"film": ("film.dcm", data)}, data={"comment": "hello"}
    )
    assert answer.status_code == 202
    assert (len(door.received()), answer.json()["failed"]) == (1, [])


@pytest.mark.slow
def test_what_is_no_dicom_is_422_and_a_second_study_in_one_request_fails(door):
    assert door.client.post("/v1/read", content=b"x" * 500, headers=DICOM).status_code == 422
    files = [("f", ("a", instance()[1])), ("f", ("b", instance(study="1.2.3")[1]))]
    answer = door.client.post("/v1/read", params={"wait_s": 0}, files=files)
    assert "belongs to another study" in answer.json()["failed"][0]


@pytest.mark.slow
def test_a_closing_door_lets_nobody_wait(door):
    threading.Timer(0.3, door.context.stop.set).start()
    started = time.monotonic()
    answer = door.client.post("/v1/read", params={"wait_s": 60}, content=instance()[1], headers=DICOM)
    assert answer.status_code == 202
    assert time.monotonic() - started < 5


def test_a_study_tells_its_works_deliveries_and_timeline(door):
    _, answer = ask(door, lambda name, uid: finish(door.context, sort(door.context, name, uid), reading()))
    work = answer.json()["works"][0]["id"]
    with door.context.store.write() as connection:
        connection.execute(insert(STUDIES).values(study_uid=STUDY, patient_digest="", arm="stable", received_at=1.0))
        row = {"work_id": work, "destination": "pacs", "objects": ["1.2"], "state": "stored", "priority": 2}
        connection.execute(insert(DELIVERIES).values(**row, created_at=1.0))
        connection.execute(update(WORKS).values(state="reported"))
    found = door.client.get(f"/v1/studies/{STUDY}").json()
    assert found["instances"] == {"sorted": 1}
    assert (found["works"][0]["state"], found["deliveries"][0]["state"]) == ("reported", "stored")
    assert found["timeline"][0]["stage"] == "received"
    assert door.client.get("/v1/studies/1.2.3.4").status_code == 404
    assert door.client.get("/v1/studies/1.2%20").status_code == 400


def test_metrics_show_what_waits_and_what_was_given_up(door):
    ask(door, lambda name, uid: finish(door.context, sort(door.context, name, uid), None, "dead"))
    door.stow(instance()[1])
    with door.context.store.read() as connection:
        assert connection.execute(select(WORKS.c.state)).scalar_one() == "dead"
    text = door.client.get("/metrics").text
    assert 'wetread_gateway_queue_depth{state="received"} 1.0' in text
    assert 'wetread_gateway_dead_letters{kind="work"} 1.0' in text
    assert 'wetread_gateway_queue_age_seconds{stage="triage"}' in text
    assert "wetread_gateway_spool_bytes_free" in text
    assert "wetread_gateway_quarantined 0.0" in text
    assert 'wetread_gateway_items_total{outcome="ok",stage="http"}' in text
