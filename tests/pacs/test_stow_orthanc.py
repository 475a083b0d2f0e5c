"""A real PACS as the client of our STOW-RS: Orthanc's DICOMweb plugin sends what it holds."""

import pytest
from web_door import instance, open_door, settings_for
from wetread_gateway.web.part10 import read_meta

pytestmark = pytest.mark.pacs

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def door(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"orthanc {TOKEN}\n")
    with open_door(settings_for(tmp_path, token_file=tokens, patience_s=60.0)) as opened:
        yield opened


def send(orthanc, door, *identifiers, token=TOKEN):
    server = {"Url": door.url, "HttpHeaders": {"Authorization": f"Bearer {token}"}}
    orthanc.put("/dicom-web/servers/wetread", server)
    return orthanc.post("/dicom-web/servers/wetread/stow", {"Resources": list(identifiers), "Synchronous": True})


def test_orthanc_sends_a_study_and_takes_our_answer_for_success(orthanc, door):
    study = "1.2.826.0.1.3680043.8.498.77"
    sent = dict(instance(study=study, size=512) for _ in range(5))
    for data in sent.values():
        orthanc.post("/instances", data)
    identifiers = [found for uid in sent for found in orthanc.find(uid)]
    answered = send(orthanc, door, *identifiers)
    assert int(answered["InstancesCount"]) == 5
    kept = {}
    for path in door.received():
        data = path.read_bytes()
        meta = read_meta(data)
        kept[meta.sop_instance_uid] = data[meta.size :]
        assert door.context.spool.arrival_of(path).calling_ae == "orthanc"
    assert kept == {uid: data[read_meta(data).size :] for uid, data in sent.items()}


def test_orthanc_sees_that_it_has_no_token(orthanc, door):
    uid, data = instance(study="1.2.826.0.1.3680043.8.498.78")
    orthanc.post("/instances", data)
    with pytest.raises(Exception, match=r"401|500|502"):
        send(orthanc, door, *orthanc.find(uid), token="wrong")
    assert not door.received()
