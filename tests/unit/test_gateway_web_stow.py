"""STOW-RS at the door: what it answers, what is on disk then, and what is not."""

import dataclasses
import errno
import io
import json

import films
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from sqlalchemy import insert
from web_door import BOUNDARY, RELATED, STUDY, instance, open_door, related, settings_for, waiting_work
from wetread_gateway.config.settings import Intake
from wetread_gateway.errors import NotStored
from wetread_gateway.spool.disk import RealDisk
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.tables import WORKS
from wetread_gateway.web import multipart
from wetread_gateway.web.part10 import read_meta

REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"
REASON, SOP_UID = "00081197", "00081155"


@pytest.fixture
def door(tmp_path):
    with open_door(settings_for(tmp_path)) as opened:
        yield opened


def uids(answer, sequence):
    return [item[SOP_UID]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def reasons(answer, sequence=OTHERS):
    return [item[REASON]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def dataset_of(part10: bytes) -> bytes:
    return part10[read_meta(part10, at_end=True).size :]


def test_what_is_answered_as_stored_lies_in_received_with_equal_dataset_bytes(door):
    sent = dict(instance(size=300) for _ in range(3))
    answer = door.stow(*sent.values())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert uids(answer, REFERENCED) == list(sent)
    files = door.received()
    assert len(files) == 3
    for file, (uid, data) in zip(files, sent.items(), strict=True):
        kept = file.read_bytes()
        assert dataset_of(kept) == dataset_of(data)
        assert pydicom.dcmread(io.BytesIO(kept)).file_meta.MediaStorageSOPInstanceUID == uid
    assert not list(door.context.spool.incoming.iterdir())
    assert not list(door.context.spool.associations.iterdir())


def test_every_stored_instance_is_in_the_audit_before_the_answer(door):
    uid, data = instance()
    assert door.stow(data).status_code == 200
    (line,) = door.audited()
    event = json.loads(line)
    assert (event["action"], event["outcome"], event["object_uid"], event["study_uid"]) == ("intake", "ok", uid, STUDY)


def test_an_instance_says_how_it_came_and_stat_is_known_at_the_door(door):
    door.stow(instance()[1])
    door.stow(instance()[1], **{"Wetread-Priority": "STAT"})
    stat, routine = [door.context.spool.arrival_of(path) for path in door.received()]
    assert (stat.stat, routine.stat) == (True, False)
    assert (stat.called_ae, routine.called_ae) == ("WETREAD_STAT", "WETREAD")
    assert routine.door == "stow"
    assert routine.address == "127.0.0.1"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_transfer_syntax_is_kept_as_sent(door, syntax):
    dataset = pydicom.dcmread(io.BytesIO(instance(size=300)[1]))
    sent = films.to_bytes(dataset, syntax)
    assert door.stow(sent, study=STUDY).status_code == 200
    (file,) = door.received()
    assert dataset_of(file.read_bytes()) == dataset_of(sent)


def test_pixels_that_look_like_boundaries_are_kept(door):
    line = f"\r\n--{BOUNDARY}".encode()
    uid, data = instance()
    tail = line[:-1] + line[:-3] + b"\r\n--" + line + b"x" + line + b"\r" + line + b"-\r\n\r\r\n-"
    answer = door.stow(data + tail)
    assert uids(answer, REFERENCED) == [uid]
    assert dataset_of(door.received()[0].read_bytes()) == dataset_of(data) + tail


def test_bad_instances_fail_alone_each_with_its_reason(door):
    good_uid, good = instance()
    _, other = instance(sop="1.2.3.4.5")
    lying = bytearray(other)
    at = lying.rindex(b"1.2.3.4.5")
    lying[at : at + 9] = b"1.2.3.4.6"
    headless = dataset_of(good)
    without_study = films.to_bytes(films.film(films.radiograph(16, 16)))
    answer = door.stow(b"nonsense", headless, bytes(lying), good, good[:200], without_study, b"")
    assert answer.status_code == 202
    assert uids(answer, REFERENCED) == [good_uid]
    assert dict(zip(uids(answer, FAILED), reasons(answer, FAILED), strict=True))["1.2.3.4.5"] == 0xA900
    assert reasons(answer) == [0xC000] * 4
    assert len(door.received()) == 1
    assert not list(door.context.spool.incoming.iterdir())


def test_an_instance_of_another_study_than_the_one_named_fails(door):
    mine, theirs = instance(), instance(study="1.2.3")
    answer = door.stow(mine[1], theirs[1], study=STUDY)
    assert answer.status_code == 202
    assert (uids(answer, REFERENCED), uids(answer, FAILED)) == ([mine[0]], [theirs[0]])
    assert reasons(answer, FAILED) == [0xA900]
    assert door.stow(theirs[1], study=STUDY).status_code == 409


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, b"x", 415),
        ("application/json", b"{}", 415),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b', b"--b--", 415),
        ('multipart/related; type="application/dicom"', b"--b--\r\n", 400),
        (f'multipart/related; type="application/dicom"; boundary={"b" * 300}', b"--b--\r\n", 400),
        (RELATED["Content-Type"], b"", 400),
        (RELATED["Content-Type"], f"--{BOUNDARY}--\r\n".encode(), 400),
        (RELATED["Content-Type"], b"--another\r\n\r\nx\r\n--another--\r\n", 400),
        (RELATED["Content-Type"], f"--{BOUNDARY}\r\n{'x' * 100_000}".encode(), 400),
        (RELATED["Content-Type"], f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 1000, 400),
        ("application/dicom", b"", 400),
    ],
)
def test_a_body_that_is_none_is_a_problem(door, content_type, body, status):
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = door.client.post("/studies", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_part_of_another_type_fails_alone(door):
    good = related(instance()[1])
    other = related(b"{}", header=b"Content-Type: application/json\r\n")
    answer = door.client.post("/studies", content=other[: -len(BOUNDARY) - 6] + good, headers=RELATED)
    assert answer.status_code == 202
    assert reasons(answer) == [0xC000]


def test_a_body_that_breaks_off_keeps_what_was_whole(door):
    first, second = instance(), instance()
    answer = door.client.post("/studies", content=related(first[1], second[1])[:-400], headers=RELATED)
    assert answer.status_code == 202
    assert uids(answer, REFERENCED) == [first[0]]
    assert len(door.received()) == 1
    assert not list(door.context.spool.incoming.iterdir())


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(tmp_path):
    body = related(instance(size=300)[1])
    with open_door(settings_for(tmp_path, max_body_bytes=100_000)) as door:
        assert door.client.post("/studies", content=body, headers=RELATED).status_code == 413
        chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
        assert door.client.post("/studies", content=chunks, headers=RELATED).status_code == 413
        assert not door.received()
        assert not list(door.context.spool.incoming.iterdir())


def test_more_parts_than_an_answer_can_hold_are_refused(door, monkeypatch):
    monkeypatch.setattr(multipart, "MOST_PARTS", 5)
    assert door.stow(*[b"x"] * 6).status_code == 413


def test_nothing_is_taken_below_the_watermark(tmp_path):
    settings = settings_for(tmp_path)
    with open_door(settings) as door:
        door.context.live.current = dataclasses.replace(settings, intake=Intake(watermark_free_bytes=1 << 60))
        answer = door.stow(instance()[1])
        assert answer.status_code == 507
        assert not door.received()


class FullDisk(RealDisk):
    """A disk that has room for so many bytes of a file."""

    room = 0

    def write(self, file, data):
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        super().write(file, data)


def test_a_disk_that_fills_while_we_write_is_507_and_leaves_nothing(tmp_path):
    disk = FullDisk()
    disk.room = 100_000
    with open_door(settings_for(tmp_path), spool=Spool(tmp_path / "spool", disk)) as door:
        answer = door.stow(instance(size=300)[1])
        assert answer.status_code == 507
        assert not door.received()
        assert not list(door.context.spool.incoming.iterdir())
        disk.room = 1 << 30
        assert door.stow(instance(size=300)[1]).status_code == 200


class FailingSync(RealDisk):
    """A disk whose fsync fails."""

    def fsync(self, file):
        raise OSError(errno.EIO, "Input/output error")


def test_an_instance_whose_fsync_fails_is_not_stored(tmp_path):
    with open_door(settings_for(tmp_path), spool=Spool(tmp_path / "spool", FailingSync())) as door:
        answer = door.stow(instance()[1])
        assert answer.status_code == 409
        assert reasons(answer, FAILED) == [0xA700]
        assert not door.received()


class FailingAudit:
    """An audit that takes nothing."""

    def record(self, *events):
        raise NotStored("no")

    def close(self):
        pass


def test_what_the_audit_does_not_take_is_not_answered_as_stored(tmp_path):
    with open_door(settings_for(tmp_path), audit=FailingAudit()) as door:
        assert door.stow(instance()[1]).status_code == 507


def test_overload_refuses_routine_work_with_a_time_to_return_and_takes_stat(door):
    with door.context.store.write() as connection:
        connection.execute(insert(WORKS).values(waiting_work(60)))
    answer = door.stow(instance()[1])
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert door.stow(instance()[1], **{"Wetread-Priority": "STAT"}).status_code == 200
