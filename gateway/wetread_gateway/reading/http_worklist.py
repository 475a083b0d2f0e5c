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
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.reading.worklist import Failure, Lease, Served

_TIMEOUT_S = 30.0
_CONNECT_S = 3.0  # an intake whose machine is gone does not even refuse
_PATIENCE = Retry(first_wait_s=0.2, longest_wait_s=2.0)
# What a proxy, a gateway that starts anew, or a wrong token answers: nothing is known of the work.
_AWAY = {401, 403, 408, 429, 500, 502, 503, 504}


class HttpWorklist:
    """The worklist of the gateways at `urls`, which share a store: each call goes to the one that answered last, and to
    the next when that is away. `Worklist` says what each call does.

    `token`: the bearer token. `ca`: PEM file of the authorities to trust. `certificate`: PEM files of our own
    certificate and its key. A reading is sent until its lease has run out.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        token: str = "",
        ca: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        tls = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            tls.load_cert_chain(*certificate)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        given = [urls] if isinstance(urls, str) else urls
        self._roots = [url.rstrip("/") + "/v1/leases" for url in given]
        self._best = 0  # of the roots, the one that answered last
        self.answered_at = 0.0
        """When a gateway last answered, in seconds since 1970; 0: never."""
        timeout = httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S)
        self._http = httpx.Client(headers=headers, verify=tls, timeout=timeout, trust_env=False)

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
        """Ask one gateway after the other, the one that answered last first; the last one's WorklistAway."""
        first, count = self._best, len(self._roots)
        for n in range(count):
            number = (first + n) % count
            try:
                answer = self._ask_one(self._roots[number], method, path, document)
            except WorklistAway:
                if n == count - 1:
                    raise
            else:
                self._best = number
                return answer
        raise AssertionError("a worklist has an address")

    def _ask_one(self, root: str, method: str, path: str, document: dict[str, Any] | None) -> httpx.Response:
        try:
            answer = self._http.request(method, root + path, json=document)
        except httpx.TransportError as error:
            raise WorklistAway(f"no answer from {root}: {type(error).__name__}") from error
        if answer.status_code in _AWAY:
            raise WorklistAway(f"{root} answers {answer.status_code}")
        self.answered_at = time.time()
        if answer.is_success:
            return answer
        if answer.status_code == httpx.codes.FAILED_DEPENDENCY:
            raise SiblingAway(f"an image lies at an intake that {root} cannot reach now")
        if answer.status_code == httpx.codes.CONFLICT:
            raise LeaseLost(f"the gateway says that work {path} is leased no more")
        if answer.status_code == httpx.codes.NOT_FOUND and method == "GET":
            raise SourceMissing("an image of the work is nowhere in the gateway's spool")
        raise GatewayError(f"{root}{path} answers {answer.status_code}")
