"""What a configuration will do, in words, and what in it is allowed but seldom meant."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from wetread_gateway.config.consistency import is_loopback
from wetread_gateway.config.settings import Match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.config.settings import Destination, Rule, Settings


def describe(settings: Settings) -> Iterator[str]:
    """Say what the gateway will do: its doors, peers, destinations and rules, a line each."""
    dicom, http = settings.dicom, settings.http
    gateway = settings.gateway
    shared = bool(gateway.store or gateway.store_file)
    yield f"state in {gateway.state_dir}, store {'PostgreSQL' if shared else 'SQLite'}"
    if gateway.name or gateway.sibling_url:
        among = f"; films of others come from {gateway.sibling_url}" if gateway.sibling_url else ""
        yield f"intake {gateway.name or '(named by --name)'}{among}"
    yield (
        f"DICOM door at {dicom.host}:{dicom.port} as {dicom.ae_title} (STAT: {dicom.stat_ae_title}), "
        f"{'TLS' if dicom.tls else 'no TLS'}, {dicom.receivers} processes"
    )
    if http.port:
        guards = [name for name, given in (("TLS", http.tls), ("tokens", http.token_file)) if given]
        yield f"HTTP door at {http.host}:{http.port}, {' and '.join(guards) or 'open to this machine alone'}"
    else:
        yield "no HTTP door"
    if dicom.any_peer:
        yield "any AE title may call"
    for peer in settings.peer:
        said = [f" from {peer.host}" if peer.host else "", ", all STAT" if peer.stat else ""]
        said.append(f", asked for counts at {peer.host}:{peer.port}" if peer.port else "")
        yield f"peer {peer.ae_title}{''.join(said)}"
    for destination in settings.destination:
        yield _destination(destination)
    for number, rule in enumerate(settings.rule, 1):
        yield f"rule {number} {rule.name!r}: {conditions(rule.match)} -> {_deed(rule)}"
    if gateway.reader:
        yield f"read by Triton at {settings.triton.url}, {settings.triton.concurrency} at once"
    else:
        yield "no reader of its own: readers elsewhere lease its work at the HTTP door"
    if settings.triton.rollouts:
        yield f"which release reads whom: {settings.triton.rollouts}"


def conditions(match: Match) -> str:
    """Write the conditions of a rule in one line."""
    said = []
    for name in Match.__slots__:
        value = getattr(match, name)
        if value:
            text = value if isinstance(value, str) else "|".join(glob or "(empty)" for glob in value)
            said.append(f"{name} {text}")
    return ", ".join(said) or "anything"


def cautions(settings: Settings) -> Iterator[str]:
    """Give what is allowed but seldom meant, with what to do about it."""
    if not settings.gateway.reader and not settings.http.port:
        yield "nobody can read: gateway.reader is off and so is the HTTP door, where readers lease; set http.port"
    if not settings.rule:
        yield "there is no rule: everything is kept in `unmatched` and nothing is read; add a [[rule]]"
    for later, earlier in shadowed(settings):
        yield (
            f"rule {later.name!r} never fires: {earlier.name!r} above it takes all that it asks for; "
            "move it up, or take it out"
        )
    for rule in settings.rule:
        if rule.pipeline and not rule.destinations:
            yield f"rule {rule.name!r} sends its results nowhere; name destinations"
    used = {name for rule in settings.rule for name in rule.destinations}
    for destination in settings.destination:
        if destination.name not in used:
            yield f"destination {destination.name!r} is in no rule: nothing is sent to it"
    if not settings.peer and not settings.dicom.any_peer:
        yield "nobody may send over DICOM; add a [[peer]] for each sender, or any_peer = true to [dicom]"
    if not is_loopback(settings.dicom.host) and settings.dicom.tls is None:
        whom = "anyone" if settings.dicom.any_peer else "anyone who knows an AE title"
        yield f"the DICOM door is open to {whom} who reaches {settings.dicom.host}; add [dicom.tls] or a firewall"


def shadowed(settings: Settings) -> Iterator[tuple[Rule, Rule]]:
    """Give each rule that can never fire, with the earlier one that takes all that it asks for.

    Certain, not complete: what two patterns have in common is not worked out.
    """
    for index, later in enumerate(settings.rule):
        for earlier in settings.rule[:index]:
            if _covers(earlier.match, later.match):
                yield later, earlier
                break


def _covers(earlier: Match, later: Match) -> bool:
    """Whether everything that `later` matches is matched by `earlier`."""
    for name in Match.__slots__:
        wide, narrow = getattr(earlier, name), getattr(later, name)
        if isinstance(wide, str):
            if wide and wide != narrow:
                return False
        elif wide and not (narrow and all(any(_includes(a.upper(), b.upper()) for a in wide) for b in narrow)):
            return False
    return True


def _includes(wide: str, narrow: str) -> bool:
    """Whether one glob takes all that another takes."""
    is_literal = not any(sign in narrow for sign in "*?[")
    return wide in ("*", narrow) or (is_literal and fnmatch.fnmatchcase(narrow, wide))


def _destination(destination: Destination) -> str:
    if destination.kind == "dimse":
        where = f"{destination.ae_title} at {destination.host}:{destination.port}{', TLS' if destination.tls else ''}"
    else:
        where = destination.url
    wanted = [name for name, on in (("capture", destination.capture), ("FHIR", destination.fhir)) if on]
    if destination.sr != "none":
        wanted.insert(0, f"{destination.sr} SR")
    asked = "not asked what it holds" if destination.verify == "none" else f"asked by {destination.verify}"
    return f"destination {destination.name!r}: {where}; gets {', '.join(wanted)}; {asked}"


def _deed(rule: Rule) -> str:
    if not rule.pipeline:
        return "kept, not read"
    return f"{rule.pipeline}, {rule.priority}, to {', '.join(rule.destinations) or 'nowhere'}"
