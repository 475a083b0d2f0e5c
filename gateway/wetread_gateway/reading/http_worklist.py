"""The worklist over HTTP, for a reader that sits beside its Triton and far from the spool."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
from wetread_client import Retry

from wetread_gateway.errors import GatewayError, LeaseLost, SiblingAway, SourceMissing, WorklistAway
from wetread_gateway.reading.wire import Completion, GivenBack, LeaseDocument, Leases

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.reading.worklist import Failure, Lease, Served

_TIMEOUT_S = 30.0
_PATIENCE = Retry(first_wait_s=0.2, longest_wait_s=2.0)
# What a proxy, a gateway that starts anew, or a wrong token answers: nothing is known of the work.
_AWAY = {401, 403, 408, 429, 500, 502, 503, 504}


class HttpWorklist:
    """The worklist of the gateway at `url`; `Worklist` says what each call does.

    `token`: the bearer token. `ca`: PEM file of the authorities to trust. `certificate`: PEM files of our own
    certificate and its key. A reading is sent until its lease has run out.
    """

    def __init__(
        self, url: str, token: str = "", ca: Path | None = None, certificate: tuple[Path, Path] | None = None
    ) -> None:
        tls = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            tls.load_cert_chain(*certificate)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._root = url.rstrip("/") + "/v1/leases"
        self._http = httpx.Client(headers=headers, verify=tls, timeout=_TIMEOUT_S, trust_env=False)

    def lease(
        self, n: int, owner: str, *, stat_only: bool = False, without: frozenset[Served] = frozenset()
    ) -> list[Lease]:
        """Lease works."""
        wanted = {
            "n": n,
            "owner": owner,
            "stat_only": stat_only,
            "without": [{"pipeline": served.pipeline, "arm": served.arm} for served in sorted(without)],
        }
        answer = Leases.model_validate_json(self._ask("POST", "", wanted).content)
        return [document.parsed(owner) for document in answer.leases]

    def extend(self, lease: Lease) -> Lease:
        """Keep a work for longer."""
        answer = self._ask("POST", f"/{lease.work}/extend", {"token": lease.token})
        return LeaseDocument.model_validate_json(answer.content).parsed(lease.owner)

    def complete(self, lease: Lease, reading: StoredReading) -> None:
        """Hand in the reading."""
        self._insist(lease, "complete", Completion.of(lease.token, reading))

    def shadow(self, lease: Lease, reading: StoredReading) -> None:
        """Hand in what a candidate says; tried once."""
        kept = replace(reading, segmentation=None)  # nobody compares it
        self._ask("POST", f"/{lease.work}/shadow", Completion.of(lease.token, kept))

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Give a work back."""
        document = {
            "token": lease.token,
            "kind": failure.kind.value,
            "code": failure.code[:64],
            "reason": failure.reason[:1024],
            "wait_s": failure.wait_s,
        }
        self._insist(lease, "fail", document)

    def abandon(self, owner: str) -> int:
        """Give back what a former process of the same name had leased."""
        return GivenBack.model_validate_json(self._ask("POST", "/abandon", {"owner": owner}).content).works

    def film(self, lease: Lease, n: int) -> bytes:
        """Fetch the bytes of the n-th source."""
        return self._ask("GET", f"/{lease.work}/sources/{n}?token={lease.token}").content

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _insist(self, lease: Lease, verb: str, document: dict[str, Any]) -> None:
        """Post until there is an answer or the lease has run out. Its token lets it count once at most."""
        failures = 0
        while True:
            try:
                self._ask("POST", f"/{lease.work}/{verb}", document)
            except WorklistAway:
                failures += 1
                wait_s = _PATIENCE.wait_s(failures)
                if time.time() + wait_s >= lease.until:
                    raise
                time.sleep(wait_s)
            else:
                return

    def _ask(self, method: str, path: str, document: dict[str, Any] | None = None) -> httpx.Response:
        try:
            answer = self._http.request(method, self._root + path, json=document)
        except httpx.TransportError as error:
            raise WorklistAway(f"no answer from {self._root}: {type(error).__name__}") from error
        if answer.is_success:
            return answer
        if answer.status_code == httpx.codes.FAILED_DEPENDENCY:
            raise SiblingAway(f"an image lies at an intake that {self._root} cannot reach now")
        if answer.status_code in _AWAY:
            raise WorklistAway(f"{self._root} answers {answer.status_code}")
        if answer.status_code == httpx.codes.CONFLICT:
            raise LeaseLost(f"the gateway says that work {path} is leased no more")
        if answer.status_code == httpx.codes.NOT_FOUND and method == "GET":
            raise SourceMissing("an image of the work is nowhere in the gateway's spool")
        raise GatewayError(f"{self._root}{path} answers {answer.status_code}")
