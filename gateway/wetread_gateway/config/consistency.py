"""What must hold between settings that are each well-formed."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from wetread_gateway.config.convert import Mistake
from wetread_gateway.config.files import first_line
from wetread_gateway.rules import pattern_complaint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.config.lines import Place
    from wetread_gateway.config.settings import Destination, Rule, Settings


def contradictions(settings: Settings) -> Iterator[Mistake]:
    """Give everything in `settings` that does not go together."""
    yield from _store(settings)
    yield from _siblings(settings)
    yield from _doors(settings)
    yield from _peers(settings)
    for name, words in (
        ("peer", [peer.ae_title for peer in settings.peer]),
        ("destination", [destination.name for destination in settings.destination]),
        ("rule", [rule.name for rule in settings.rule]),
    ):
        yield from _twice(name, words)
    for index, destination in enumerate(settings.destination):
        yield from _destination(destination, ("destination", index), settings)
    known = {destination.name for destination in settings.destination}
    for index, rule in enumerate(settings.rule):
        yield from _rule(rule, ("rule", index), known)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _store(settings: Settings) -> Iterator[Mistake]:
    store, file = settings.gateway.store, settings.gateway.store_file
    key = "store" if file is None else "store_file"
    place: Place = ("gateway", key)
    if file is not None and store:
        yield Mistake(place, "gateway.store and gateway.store_file name two stores", "leave one of them out")
        return
    if file is not None:
        try:
            store = first_line(file)
        except (OSError, UnicodeDecodeError) as error:
            yield Mistake(place, f"gateway.store_file cannot be read ({type(error).__name__})", "correct the file")
            return
    if not store and file is None:
        return
    remedy = 'write "" for SQLite or "postgresql+psycopg://user@host/database?passfile=FILE"'
    if file is not None:
        remedy = 'write "postgresql+psycopg://user:password@host/database" as its first line'
    try:
        url = make_url(store)
    except ArgumentError:
        yield Mistake(place, f"gateway.{key} is no address of a database", remedy)
        return
    if url.drivername != "postgresql+psycopg":
        yield Mistake(place, f"gateway.{key}: {url.drivername!r} is no store of ours", remedy)
    if file is None and (url.password or "password" in url.query):
        remedy = "put it into a file: ...?passfile=FILE (PostgreSQL's form), or all of it into store_file"
        yield Mistake(place, "gateway.store holds a password", remedy)


def _siblings(settings: Settings) -> Iterator[Mistake]:
    """Check where the other intakes are; their name may come from the command line."""
    gateway = settings.gateway
    if not gateway.sibling_url:
        for key in ("sibling_token_file", "sibling_authorities"):
            if getattr(gateway, key) is not None:
                remedy = 'add sibling_url = "https://{name}.wetread-intake:8080", or leave it out'
                yield Mistake(("gateway", key), f"gateway.{key} is of no use without sibling_url", remedy)
        return
    place: Place = ("gateway", "sibling_url")
    remedy = 'write it as "https://{name}.wetread-intake:8080"'
    if gateway.sibling_url.count("{name}") != 1 or set("{}") & set(gateway.sibling_url.replace("{name}", "")):
        yield Mistake(place, "gateway.sibling_url does not hold {name} once", remedy)
        return
    url = urlsplit(gateway.sibling_url.replace("{name}", "1"))
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        yield Mistake(place, f"gateway.sibling_url: {gateway.sibling_url!r} is no address of a door", remedy)
    elif url.username or url.password:
        yield Mistake(place, "gateway.sibling_url holds a password", "use sibling_token_file")
    elif url.scheme == "http" and not is_loopback(url.hostname):
        yield Mistake(place, "gateway.sibling_url: films would travel in the clear", "use https")
    if not settings.http.port:
        yield Mistake(place, "gateway.sibling_url needs an HTTP door here too", "give [http] a port")


def _doors(settings: Settings) -> Iterator[Mistake]:
    dicom, http = settings.dicom, settings.http
    if dicom.ae_title == dicom.stat_ae_title:
        what = "stat_ae_title equals ae_title: all would be STAT"
        yield Mistake(("dicom", "stat_ae_title"), what, "name another one")
    if http.port and http.port == dicom.port:
        yield Mistake(("http", "port"), f"port {http.port} is the DICOM door's too", "give each door its own")
    if http.port and not is_loopback(http.host) and http.tls is None:
        remedy = 'add [http.tls] (and token_file, for clients without a certificate), or write host = "127.0.0.1"'
        yield Mistake(("http", "host"), f"http.host {http.host} is open to the network without TLS", remedy)
    elif http.port and not is_loopback(http.host) and not (http.token_file or (http.tls and http.tls.authorities)):
        what = f"http.host {http.host} is open to everybody who speaks TLS"
        yield Mistake(("http", "host"), what, "add authorities to [http.tls], or token_file")
    scheme = urlsplit(settings.triton.url).scheme
    if scheme not in ("http", "https", "grpc", "grpcs"):
        remedy = 'write it as "http://127.0.0.1:8000"; https, grpc and grpcs too'
        yield Mistake(("triton", "url"), f"triton.url: {settings.triton.url!r} is no address of a server", remedy)


def _peers(settings: Settings) -> Iterator[Mistake]:
    for index, peer in enumerate(settings.peer):
        if peer.port and not peer.host:
            remedy = "add host, or leave port out"
            yield Mistake(("peer", index, "port"), f"peer {peer.ae_title!r} has a port but no host to ask", remedy)
        if peer.tls and settings.dicom.tls is None:
            yield _no_certificate(("peer", index, "tls"), f"peer {peer.ae_title!r}")


def _twice(name: str, words: list[str]) -> Iterator[Mistake]:
    for word, times in Counter(words).items():
        if times > 1:
            second = words.index(word, words.index(word) + 1)
            key = "ae_title" if name == "peer" else "name"
            yield Mistake((name, second, key), f"{name} {word!r} is there {times} times", "give each a name of its own")


def _destination(destination: Destination, place: Place, settings: Settings) -> Iterator[Mistake]:
    name = f"destination {destination.name!r}"
    for kind, keys in _needs(destination).items():
        for key in keys:
            if not getattr(destination, key):
                what = f'{name}: {kind} = "{getattr(destination, kind)}" needs {key}'
                yield Mistake((*place, kind), what, f"add {key}")
    if destination.tls and settings.dicom.tls is None:
        yield _no_certificate((*place, "tls"), name)
    if destination.url:
        url = urlsplit(destination.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            remedy = 'write it as "https://pacs.example/dicom-web"'
            yield Mistake((*place, "url"), f"{name}: {destination.url!r} is no DICOMweb root", remedy)
        elif url.username or url.password:
            yield Mistake((*place, "url"), f"{name}: the url holds a password", "use token_file")
        elif destination.token_file and url.scheme == "http" and not is_loopback(url.hostname):
            yield Mistake((*place, "url"), f"{name}: its token would travel in the clear", "use https")
    if destination.sr == "none" and not (destination.capture or destination.seg or destination.fhir):
        yield Mistake(place, f"{name} wants no result at all", "write sr, capture, seg or fhir, or take it out")


def _needs(destination: Destination) -> dict[str, tuple[str, ...]]:
    """Give the keys that must be filled in because of the value of another."""
    dimse, stow = ("ae_title", "host"), ("url",)
    needs: dict[str, tuple[str, ...]] = {"kind": dimse if destination.kind == "dimse" else stow}
    if destination.kind == "stow" and destination.verify in ("commitment", "find"):
        needs["verify"] = dimse
    if destination.kind == "dimse" and destination.verify == "qido":
        needs["verify"] = stow
    return needs


def _rule(rule: Rule, place: Place, known: set[str]) -> Iterator[Mistake]:
    name = f"rule {rule.name!r}"
    for index, destination in enumerate(rule.destinations):
        if destination not in known:
            offered = ", ".join(sorted(known)) or "none yet"
            remedy = f"add a [[destination]] of that name, or name one of: {offered}"
            yield Mistake((*place, "destinations", index), f"{name} names no destination: {destination!r}", remedy)
    for key in ("study_description_regex", "series_description_regex"):
        complaint = pattern_complaint(getattr(rule.match, key))
        if complaint:
            yield Mistake((*place, "match", key), f"{name}: {key} is no regular expression: {complaint}", "correct it")


def _no_certificate(place: Place, who: str) -> Mistake:
    return Mistake(place, f"{who} is asked over TLS, but we have no certificate", "add [dicom.tls]")
