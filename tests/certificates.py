"""Authorities and certificates for tests of TLS: made in memory, written as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Pem:
    """A certificate, its key and both in one file."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates for a day; `folder` gets the files."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(name)
        self.file = folder / f"{name}.pem"
        made = self._sign(self._subject, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None), [])
        self.file.write_bytes(made.public_bytes(Encoding.PEM))

    def issue(self, name: str, *hosts: str) -> Pem:
        """Issue a certificate for `hosts` (names or addresses; default: 127.0.0.1)."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_host(host) for host in hosts or ("127.0.0.1",)]
        extensions = [x509.SubjectAlternativeName(names)]
        made = self._sign(_named(name), key.public_key(), x509.BasicConstraints(ca=False, path_length=None), extensions)
        files = [self._folder / f"{self._name}-{name}.{ending}" for ending in ("crt", "key", "pem")]
        certificate = made.public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for file, content in zip(files, (certificate, secret, secret + certificate), strict=True):
            file.write_bytes(content)
        return Pem(*files)

    def _sign(self, subject, public_key, constraints, extensions):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(constraints, critical=True)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
