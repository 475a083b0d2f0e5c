"""A PACS to try against: Debian's Orthanc, and DCMTK's storescp, on free ports of loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from wetread_bench.servers import ENVIRONMENT, end, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

ORTHANC = "Orthanc"
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True, slots=True)
class Modality:
    """An AE that Orthanc knows: where it sends commitment reports and forwards to."""

    ae_title: str
    port: int
    host: str = "127.0.0.1"
    tls: bool = False


@dataclass(frozen=True, slots=True)
class DicomTls:
    """PEM files for Orthanc's DICOM side: its certificate and key, and whom it trusts."""

    certificate: Path
    key: Path
    authorities: Path
    asks_for_certificates: bool = True


def missing(*programs: str) -> str:
    """Say which of the programs (default: Orthanc and its DICOMweb plugin) are not installed; empty when all are."""
    absent = [program for program in programs or (ORTHANC,) if shutil.which(program) is None]
    if (not programs or ORTHANC in programs) and not DICOMWEB_PLUGIN.exists():
        absent.append("orthanc-dicomweb")
    return f"not installed: {', '.join(absent)} (make setup-system)" if absent else ""


class Orthanc:
    """A running Orthanc; a context that leaves no process behind.

    `modalities`: by Orthanc's own name for them. `lua`: the text of a script, such as one that forwards everything.
    `options`: more of Orthanc's configuration, last word. `folder`: kept when given, else a temporary one.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        ae_title: str = "ORTHANC",
        modalities: Mapping[str, Modality] | None = None,
        tls: DicomTls | None = None,
        lua: str = "",
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.dicom_port, self.http_port = free_port(), free_port()
        self._given, self._folder = folder, folder
        self._modalities, self._tls, self._lua, self._options = dict(modalities or {}), tls, lua, dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def scheme(self) -> str:
        """`https` where the options say SslEnabled."""
        return "https" if self._options.get("SslEnabled") else "http"

    @property
    def url(self) -> str:
        """Root of the REST interface."""
        return f"{self.scheme}://{self.host}:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        """Root of DICOMweb, as `[[destination]] url` wants it."""
        return f"{self.url}/dicom-web"

    @property
    def pid(self) -> int:
        """The running server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.folder / "log"

    @property
    def folder(self) -> Path:
        """Where its storage, configuration and log are."""
        assert self._folder is not None
        return self._folder

    def __enter__(self) -> Self:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        # Answers are read as JSON of unknown shape. No proxy of the environment stands between loopback and us.
        self._rest = httpx.Client(
            base_url=self.url,
            trust_env=False,
            timeout=30.0,
            verify=False,  # noqa: S501 -- ours
            limits=httpx.Limits(max_keepalive_connections=0),  # Orthanc ends idle ones after 1 s, under a request too
        )
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._rest.close()
        if self._given is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._folder = None

    def start(self) -> None:
        """Start it on its ports with what its storage holds; NotStarted when it does not answer in time."""
        (self.folder / "orthanc.json").write_text(json.dumps(self._configuration(), indent=1))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [ORTHANC, str(self.folder / "orthanc.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | ENVIRONMENT,
            )
        wait_until(self._process, self._answers, self.log)

    def stop(self) -> None:
        """End it: asked first, killed soon after."""
        end(self._process)
        self._process = None

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def restart(self) -> None:
        """Stop it and start it on the same ports; its storage is kept."""
        self.stop()
        self.start()

    def get(self, path: str) -> Any:
        """GET of the REST interface, JSON."""
        return self._rest.get(path).raise_for_status().json()

    def put(self, path: str, content: object) -> None:
        """PUT of the REST interface, JSON."""
        self._rest.put(path, json=content).raise_for_status()

    def post(self, path: str, content: object) -> Any:
        """POST of the REST interface: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self._rest.post(path, content=body).raise_for_status().json()

    def instances(self) -> list[str]:
        """Orthanc's identifiers of all instances."""
        return [str(found) for found in self.get("/instances")]

    def find(self, sop_instance_uid: str) -> list[str]:
        """Orthanc's identifiers of the instances with this SOP Instance UID."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        return [str(found) for found in self.post("/tools/find", query)]

    def sop_instance_uids(self) -> list[str]:
        """SOP Instance UIDs of all instances."""
        found = self.post("/tools/find", {"Level": "Instance", "Query": {}, "Expand": True})
        return [str(instance["MainDicomTags"]["SOPInstanceUID"]) for instance in found]

    def changes(self, since: int = 0) -> list[dict[str, Any]]:
        """What has happened after number `since`, oldest first (`ChangeType`, `ID`, `Seq`, `Date`)."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"/changes?since={since}&limit=1000")
            found += page["Changes"]
            if page["Done"]:
                return found
            since = page["Last"]

    def last_change(self) -> int:
        """Number of the newest change: `changes(last_change())` is what happens from here on."""
        return int(self.get("/changes?last")["Last"])

    def file(self, identifier: str) -> bytes:
        """The DICOM file of an instance, by Orthanc's identifier."""
        return self._rest.get(f"/instances/{identifier}/file").raise_for_status().content

    def delete(self, identifier: str) -> None:
        """Delete an instance, by Orthanc's identifier."""
        self._rest.delete(f"/instances/{identifier}").raise_for_status()

    def clear(self) -> None:
        """Delete everything."""
        for patient in self.get("/patients"):
            self._rest.delete(f"/patients/{patient}").raise_for_status()

    def run_lua(self, script: str) -> None:
        """Run a script, which may define the server's functions anew. The options must say ExecuteLuaEnabled."""
        self._rest.post("/tools/execute-script", content=script.encode()).raise_for_status()

    def set_modality(self, name: str, modality: Modality) -> None:
        """Tell the running server of an AE, until it ends; restarts keep it."""
        self._modalities[name] = modality
        self.put(f"/modalities/{name}", _modality(modality))

    def _answers(self) -> bool:
        with (
            contextlib.suppress(httpx.TransportError, OSError),
            socket.create_connection((self.host, self.dicom_port), 1.0),
        ):
            return self._rest.get("/system").status_code < 500  # 401, 403: it asks for credentials, so it is up
        return False

    def _configuration(self) -> dict[str, object]:
        content: dict[str, object] = {
            "Name": self.ae_title,
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Host": self.host},
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomModalities": {name: _modality(modality) for name, modality in self._modalities.items()},
            "OverwriteInstances": False,
            "StableAge": 1,
            "LuaScripts": [],
        }
        if self._lua:
            script = self.folder / "script.lua"
            script.write_text(self._lua)
            content["LuaScripts"] = [str(script)]
        if self._tls is not None:
            content |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(self._tls.certificate),
                "DicomTlsPrivateKey": str(self._tls.key),
                "DicomTlsTrustedCertificates": str(self._tls.authorities),
                "DicomTlsRemoteCertificateRequired": self._tls.asks_for_certificates,
            }
        return content | self._options


def _modality(modality: Modality) -> dict[str, object]:
    return {
        "AET": modality.ae_title,
        "Host": modality.host,
        "Port": modality.port,
        "UseDicomTls": modality.tls,
        "AllowStorageCommitment": True,
    }
