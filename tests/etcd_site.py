"""A real etcd of one member on loopback, for the tests of what is kept in it (Debian's etcd-server)."""

import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from waiting import WAIT_S
from wetread_bench.servers import free_port


class EtcdSite:
    """An etcd process with a data folder; it can be stopped and started again on its ports."""

    def __init__(self, folder: Path, tls: tuple[Path, Path, Path] | None = None) -> None:
        """`tls`: files of the authority whose clients are let in, of the server's certificate and of its key."""
        self._folder, self._tls = folder, tls
        self.port, self._peer_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = shutil.which("etcd")
        if binary is None:
            pytest.skip("no etcd: make setup-system")
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [binary, "--name", "test", "--data-dir", str(self._folder / "data"), "--log-level", "error"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"test={peer}"]
        if self._tls is not None:
            authority, certificate, key = map(str, self._tls)
            command += ["--client-cert-auth", "--trusted-ca-file", authority]
            command += ["--cert-file", certificate, "--key-file", key]
        with (self._folder / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + WAIT_S
        while not self._healthy():
            log = self._folder / "etcd.log"
            assert self._process.poll() is None, f"etcd ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"etcd is not ready after {WAIT_S} s: {log.read_text()}"
            time.sleep(0.05)

    def _healthy(self) -> bool:
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *self._tls_handlers())
            with opener.open(f"{self.url}/health", timeout=2) as answer:
                return b"true" in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    def _tls_handlers(self) -> list[urllib.request.HTTPSHandler]:
        if self._tls is None:
            return []
        authority, certificate, key = self._tls
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
        return [urllib.request.HTTPSHandler(context=context)]
