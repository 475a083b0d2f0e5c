"""Certificates, keys and tokens: readable, belonging together, in time, and nobody else's to read."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from wetread_gateway.doctor.check import Check
from wetread_gateway.errors import ConfigError
from wetread_gateway.web.access import Tokens

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from cryptography.x509 import Certificate

    from wetread_gateway.config.settings import HttpTls, Settings, Tls

SOON = timedelta(days=30)


def checks(settings: Settings) -> Iterator[Check]:
    """Check every file of the settings that holds a certificate, a key or tokens."""
    for name, tls in (("dicom.tls", settings.dicom.tls), ("http.tls", settings.http.tls)):
        if tls is not None:
            yield from _identity(f"{name} certificate", tls)
            if tls.authorities is not None:
                yield from _dates(f"{name} authorities", tls.authorities)
    if settings.http.token_file is not None:
        yield from _tokens(settings.http.token_file)
    for destination in settings.destination:
        if destination.authorities is not None:
            yield from _dates(f"{destination.name} authorities", destination.authorities)
        if destination.token_file is not None:
            yield _secret(f"{destination.name} token", destination.token_file)


def _identity(name: str, tls: Tls | HttpTls) -> Iterator[Check]:
    """Check our own certificate and its key."""
    certificates = yield from _dates(name, tls.certificate)
    try:
        key = load_pem_private_key(tls.key.read_bytes(), None)
    except TypeError:
        yield Check(
            name, False, f"{tls.key} has a password, which nobody types at a start; `openssl pkey` takes it off"
        )
        return
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        yield Check(name, False, f"{tls.key} is no private key in PEM form: {_words(error)}")
        return
    yield _secret(name, tls.key)
    if certificates:
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        belongs = certificates[0].public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
        if not belongs:
            what = f"{tls.key} is not the key of the first certificate in {tls.certificate}"
            yield Check(name, False, f"{what}; our own comes first, its issuers behind it")


def _dates(name: str, file: Path) -> Generator[Check, None, list[Certificate]]:
    """Check when the certificates of a file are good, and return them."""
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        yield Check(name, False, f"{file} holds no certificate in PEM form: {_words(error)}")
        return []
    now = datetime.now(UTC)
    first = min(certificates, key=lambda certificate: certificate.not_valid_after_utc)
    until = first.not_valid_after_utc
    if until <= now:
        yield Check(name, False, f"{file}: {_subject(first)} expired on {until:%Y-%m-%d}; have a new one signed")
    elif any(certificate.not_valid_before_utc > now for certificate in certificates):
        yield Check(name, False, f"{file} is not good yet; look at this machine's clock, then at who signed it")
    elif until - now < SOON:
        yield Check(name, None, f"{file}: {_subject(first)} expires on {until:%Y-%m-%d}; have a new one signed now")
    else:
        yield Check(name, True, f"good until {until:%Y-%m-%d}")
    return certificates


def _tokens(file: Path) -> Iterator[Check]:
    try:
        Tokens(file)
    except ConfigError as error:
        yield Check("http tokens", False, str(error))
    else:
        yield _secret("http tokens", file)


def _secret(name: str, file: Path) -> Check:
    """Check that a secret is not everybody's to read."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        with file.open("rb"):
            pass
    except OSError as error:
        return Check(name, False, f"{file} cannot be read: {error.strerror}; give it to this user")
    if mode & 0o007:
        return Check(name, False, f"everybody on this machine can read {file}: chmod 600 {file}")
    if mode & 0o070:
        return Check(name, None, f"a whole group can read {file}; chmod 600 {file}, unless that is meant")
    return Check(name, True, f"{file} is readable by its owner alone")


def _subject(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"


def _words(error: Exception) -> str:
    return str(error).split("\n", 1)[0].split(". ", 1)[0][:120]
