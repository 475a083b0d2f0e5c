"""A destination over DICOMweb: STOW-RS (PS3.18 10.5), and QIDO-RS (10.6) for asking."""

from __future__ import annotations

import email.utils
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx

from wetread_gateway.delivery import statuses
from wetread_gateway.delivery.outlet import NotOffered
from wetread_gateway.delivery.statuses import Verdict
from wetread_gateway.errors import NotDelivered, Refused, TryAgain, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wetread_gateway.config.settings import Destination
    from wetread_gateway.delivery.outgoing import Outgoing
    from wetread_gateway.delivery.outlet import Reference

_JSON = "application/dicom+json"  # some servers answer XML, or nothing, without it
# Tags of the store response (PS3.18 table 10.5.3-1) as DICOM JSON names them.
_FAILED, _STORED, _OTHER_FAILURES = "00081198", "00081199", "0008119A"
_SOP_INSTANCE_UID, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
# QIDO-RS answers that say "not here": PS3.18 table 10.6.3-1, and 501.
_NO_QIDO = frozenset({404, 405, 406, 415, 501})
_LONGEST_RETRY_AFTER_S = 3600.0
# A PACS ends idle connections, some after 1 s (Orthanc): one that may end under a request is not used again.
_LIMITS = httpx.Limits(keepalive_expiry=0.5)


class StowPeer:
    """A destination over DICOMweb, for one thread; its connections are kept until `close`."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._root = destination.url.rstrip("/")
        self._client: httpx.Client | None = None

    def store(self, objects: Sequence[Outgoing]) -> tuple[str, ...]:
        """Store all in one request; see `Outlet.store`."""
        boundary = secrets.token_hex(16)
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        answer = self._request(
            "POST", "/studies", content=b"".join(_parts(objects, boundary)), headers={"Content-Type": kind}
        )
        meaning = statuses.of_stow(answer.status_code)
        content = _json(answer)
        if failures := list(_failures(content)):
            raise _worst(failures)
        if meaning.verdict not in (Verdict.STORED, Verdict.WARNED):
            raise statuses.error(meaning, answer.status_code, "STOW-RS", _retry_after_s(answer))
        return tuple(_warnings(content))

    def named(self, references: Sequence[Reference]) -> frozenset[str]:
        """Ask by QIDO-RS for each of them; see `Inquiry.named`."""
        return frozenset(one.sop_instance_uid for one in references if self._holds(one))

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _holds(self, reference: Reference) -> bool:
        path = f"/studies/{reference.study_uid}/series/{reference.series_uid}/instances"
        answer = self._request("GET", path, params={"SOPInstanceUID": reference.sop_instance_uid})
        if answer.status_code in (200, 204):
            return reference.sop_instance_uid in {_text(found, "00080018") for found in _list(answer)}
        if answer.status_code == 404 and self._knows_series():
            return False  # some servers: there is no such study
        if answer.status_code in _NO_QIDO:
            raise NotOffered(f"QIDO-RS is not offered ({answer.status_code})")
        raise statuses.error(
            statuses.of_stow(answer.status_code), answer.status_code, "QIDO-RS", _retry_after_s(answer)
        )

    def _knows_series(self) -> bool:
        return self._request("GET", "/studies", params={"limit": "1"}).status_code in (200, 204)

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if self._client is None:
            self._client = self._open()
        headers = {"Accept": _JSON, **self._authorization(), **arguments.pop("headers", {})}
        try:
            return self._client.request(method, f"{self._root}{path}", headers=headers, **arguments)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            self.close()
            raise Unreachable(f"no connection: {_words(error)}") from error
        except httpx.HTTPError as error:
            self.close()
            raise TryAgain(f"no answer: {_words(error)}") from error

    def _authorization(self) -> dict[str, str]:
        file = self._destination.token_file
        if file is None:
            return {}
        try:  # read anew: a renewed token is taken up without a restart
            lines = file.read_text().split("\n", 1)
        except OSError as error:
            raise Unreachable(f"the token file cannot be read: {error.strerror}") from error
        return {"Authorization": f"Bearer {lines[0].strip()}"}

    def _open(self) -> httpx.Client:
        authorities = self._destination.authorities
        try:
            context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
        except OSError as error:
            raise Unreachable(f"the file of authorities cannot be used: {error.strerror or error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The route is the configuration's alone: no proxy, no password file of the environment.
        return httpx.Client(verify=context, timeout=self._destination.timeout_s, trust_env=False, limits=_LIMITS)


def _parts(objects: Sequence[Outgoing], boundary: str) -> Iterator[bytes]:
    for outgoing in objects:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield outgoing.file
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _failures(content: dict[str, Any]) -> Iterator[NotDelivered]:
    for tag in (_FAILED, _OTHER_FAILURES):
        for item in _sequence(content, tag):
            status = _number(item, _FAILURE_REASON)
            meaning = statuses.of_store(status) if status else statuses.UNKNOWN
            if meaning.verdict not in (Verdict.STORED, Verdict.WARNED):
                yield statuses.error(meaning, status, f"C-STORE of {_text(item, _SOP_INSTANCE_UID)} by STOW-RS")


def _warnings(content: dict[str, Any]) -> Iterator[str]:
    for item in _sequence(content, _STORED):
        if status := _number(item, _WARNING_REASON):
            yield f"{statuses.of_store(status).text} (0x{status:04X})"


def _worst(failures: Sequence[NotDelivered]) -> NotDelivered:
    """What is refused for good stays so, whatever may become of the others."""
    return next((failure for failure in failures if isinstance(failure, Refused)), failures[0])


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    if isinstance(content, list):  # some servers wrap it
        content = content[0] if content else {}
    return content if isinstance(content, dict) else {}


def _list(answer: httpx.Response) -> list[dict[str, Any]]:
    if answer.status_code == 204:
        return []
    try:
        content = answer.json()
    except ValueError as error:
        raise TryAgain("QIDO-RS: the answer is no JSON", answer.status_code) from error
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _sequence(item: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [value for value in _values(item, tag) if isinstance(value, dict)]


def _number(item: dict[str, Any], tag: str) -> int:
    return next((int(value) for value in _values(item, tag) if str(value).isdecimal()), 0)


def _text(item: dict[str, Any], tag: str) -> str:
    return next((str(value) for value in _values(item, tag)), "")


def _retry_after_s(answer: httpx.Response) -> float:
    """Read Retry-After (RFC 9110 10.2.3): seconds, or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0
    return min(max(0.0, moment - time.time()), _LONGEST_RETRY_AFTER_S)


def _words(error: httpx.HTTPError) -> str:
    return str(error).split("\n", 1)[0][:200] or type(error).__name__
