"""The others: Triton and its pipelines, and each destination."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import httpx
from wetread_client.client import Client
from wetread_client.rollout import RolloutError, StoreAway
from wetread_client.rollout.open import open_store

from wetread_gateway.delivery.association import PLAIN
from wetread_gateway.delivery.command import NO_DATA_SET, CommandField, Element, decode, encode, number
from wetread_gateway.delivery.commitment import PUSH_MODEL
from wetread_gateway.delivery.dicom_out import address_of
from wetread_gateway.delivery.upper_layer import UpperLayer
from wetread_gateway.dimse.status import VERIFICATION
from wetread_gateway.doctor.check import Check
from wetread_gateway.errors import TryAgain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.config.settings import Destination, Settings

TIMEOUT_S = 5.0
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # Segmentation Storage
REPORTS = {
    "comprehensive3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}


def checks(settings: Settings) -> Iterator[Check]:
    """Ask Triton and all destinations, at the same time: the dead ones take their time-out."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        triton = pool.submit(lambda: list(_triton(settings)))
        destinations = pool.map(lambda destination: list(_destination(destination, settings)), settings.destination)
        yield from triton.result()
        yield from _rollouts(settings)
        yield from chain.from_iterable(destinations)


def _triton(settings: Settings) -> Iterator[Check]:
    url = settings.triton.url
    pipelines = sorted({rule.pipeline for rule in settings.rule if rule.pipeline})
    for pipeline in pipelines or ["chest_xray"]:
        try:
            client = Client(url, pipeline)
        except ValueError as error:
            yield Check("triton", False, f"{error}; correct triton.url")
            return
        with client:
            if not client.is_live():
                yield Check(
                    "triton", False, f"nothing answers at {url}; start it (`wetread serve`) or correct triton.url"
                )
                return
            if not client.is_ready():
                yield Check(
                    f"pipeline {pipeline}", False, f"{url} does not serve it; see the server's log, or the rules"
                )
                continue
            releases = ", ".join(map(str, client.releases()))
            yield Check(f"pipeline {pipeline}", True, f"ready at {url}, release {releases}")


def _rollouts(settings: Settings) -> Iterator[Check]:
    """Look whether the rollouts of the rules' pipelines can be read."""
    where = settings.triton.rollouts
    if not where:
        return
    try:
        known = open_store(where).pipelines()
    except (StoreAway, RolloutError) as error:
        yield Check("rollouts", False, f"{where}: {error}; correct triton.rollouts, or start the store")
        return
    without = sorted({rule.pipeline for rule in settings.rule if rule.pipeline} - set(known))
    if without:
        yield Check("rollouts", None, f"{where} has none of {', '.join(without)}: the stable release reads all of it")
    else:
        yield Check("rollouts", True, f"{where} can be read")


def _destination(destination: Destination, settings: Settings) -> Iterator[Check]:
    name = f"destination {destination.name}"
    if destination.kind == "dimse" or destination.verify in ("commitment", "find"):
        yield from _echo(name, destination, settings)
    if destination.kind == "stow" or destination.verify == "qido":
        yield _qido(name, destination)


def _echo(name: str, destination: Destination, settings: Settings) -> Iterator[Check]:
    """C-ECHO, with the contexts of what will be sent proposed beside it."""
    wanted = [CAPTURE] if destination.capture else []
    wanted += [REPORTS[destination.sr]] if destination.sr != "none" else []
    wanted += [SEGMENTATION] if destination.seg else []
    if destination.kind == "stow":
        wanted = []
    wanted += [PUSH_MODEL] if destination.verify == "commitment" else []
    timeout_s = min(destination.timeout_s, TIMEOUT_S)
    address = replace(address_of(destination, settings.dicom), timeout_s=timeout_s)
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    started = time.perf_counter()
    try:
        layer = UpperLayer(address, [(VERIFICATION, PLAIN), *((uid, PLAIN) for uid in wanted)])
        try:
            status = _status(layer, time.monotonic() + timeout_s)
        finally:
            layer.release()
    except (TryAgain, ValueError) as error:
        yield Check(name, False, f"{where}: {error}; {_remedy(str(error), settings)}")
        return
    if status != 0:
        yield Check(name, False, f"{where} answers C-ECHO with 0x{status:04X}; ask its administrator")
        return
    yield Check(name, True, f"{where} answers C-ECHO after {(time.perf_counter() - started) * 1000:.0f} ms")
    for uid in wanted:
        if layer.context(uid) is None:
            yield Check(name, None, _refused(uid, destination))


def _status(layer: UpperLayer, deadline: float) -> int:
    context = layer.context(VERIFICATION)
    if context is None:
        return 0  # it speaks DICOM with us, but knows no C-ECHO
    command: dict[int, int | str] = {
        Element.AFFECTED_SOP_CLASS_UID: VERIFICATION,
        Element.COMMAND_FIELD: CommandField.C_ECHO_RQ,
        Element.MESSAGE_ID: 1,
        Element.COMMAND_DATA_SET_TYPE: NO_DATA_SET,
    }
    layer.send(context, encode(command))
    _, answer, _ = layer.receive(deadline)
    return number(decode(answer), Element.STATUS)


def _refused(uid: str, destination: Destination) -> str:
    if uid == PUSH_MODEL:
        return f'it offers no storage commitment; write verify = "find" or "none" for {destination.name!r}'
    if uid == CAPTURE:
        return f"it takes no Secondary Capture; write capture = false for {destination.name!r}"
    if uid == SEGMENTATION:
        return f"it takes no Segmentation, as pipelines of series make them; write seg = false for {destination.name!r}"
    return f'it takes no {destination.sr} SR; write sr = "comprehensive", "enhanced" or "none" for {destination.name!r}'


def _remedy(trouble: str, settings: Settings) -> str:
    """Say what to do about an association that did not come about."""
    if "calling AE" in trouble:
        return f"tell it of us: AE title {settings.dicom.ae_title}, port {settings.dicom.port}"
    if "called AE" in trouble:
        return "correct its ae_title"
    if "TLS" in trouble or "certificate" in trouble:
        return "look at [dicom.tls] here and at the certificates there"
    return "is it running, are host and port right, does a firewall stand between?"


def _qido(name: str, destination: Destination) -> Check:
    """Ask the DICOMweb root for one study."""
    headers = {"Accept": "application/dicom+json"}
    try:
        if destination.token_file is not None:
            token = destination.token_file.read_text().split("\n", 1)[0].strip()
            headers["Authorization"] = f"Bearer {token}"
        verify = str(destination.authorities) if destination.authorities is not None else True
        with httpx.Client(verify=verify, timeout=TIMEOUT_S, trust_env=False) as client:
            answer = client.get(f"{destination.url.rstrip('/')}/studies", params={"limit": "1"}, headers=headers)
    except (httpx.HTTPError, OSError) as error:
        remedy = "is it running, is the url right, do authorities name who signed its certificate?"
        return Check(name, False, f"{destination.url}: {error}; {remedy}")
    if answer.status_code in (200, 204):
        return Check(name, True, f"{destination.url} answers QIDO-RS")
    if answer.status_code in (401, 403):
        return Check(name, False, f"{destination.url} refuses us ({answer.status_code}); look at token_file")
    return Check(name, False, f"{destination.url} answers QIDO-RS with {answer.status_code}; is it the DICOMweb root?")
