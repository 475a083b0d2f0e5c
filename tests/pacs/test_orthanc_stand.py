from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from wetread_bench.orthanc import Modality, Orthanc, missing
from wetread_bench.servers import NotStarted, storescp

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(bool(missing("Orthanc", "storescp", "echoscu")), reason=missing("Orthanc", "storescp")),
]


def echo(called: str, port: int) -> int:
    command = ["echoscu", "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_orthanc_answers_on_both_of_its_ports(orthanc) -> None:
    assert echo("ORTHANC", orthanc.dicom_port) == 0
    assert echo("SOMEBODY", orthanc.dicom_port) != 0
    assert "orthanc" in orthanc.get("/system")["Name"].lower()
    assert orthanc.get("/dicom-web/studies") == [] or orthanc.instances()


def test_a_restart_keeps_ports_storage_and_modalities(tmp_path: Path) -> None:
    with Orthanc(tmp_path / "pacs") as running:
        running.set_modality("us", Modality("WETREAD", 11112))
        created = running.post("/tools/create-dicom", {"Tags": {"PatientID": "1"}})["ID"]
        port, process = running.dicom_port, running.pid
        running.restart()
        assert (running.dicom_port, running.instances()) == (port, [created])
        assert running.pid != process
        assert running.get("/modalities?expand")["us"]["Port"] == 11112
        uid = running.sop_instance_uids()[0]
        assert running.find(uid) == [created]
        assert running.file(created)[128:132] == b"DICM"
        assert any(change["ChangeType"] == "NewInstance" for change in running.changes())
        running.clear()
        assert running.instances() == []


def test_a_configuration_that_orthanc_refuses_is_shown(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="Lua"), Orthanc(tmp_path, lua="this is no Lua"):
        pass


def test_storescp_listens_and_ends(tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as port:
        assert echo("ANY", port) == 0
    assert echo("ANY", port) != 0
