"""TLS for DICOM as BCP 195 (RFC 9325) has it: 1.2 or later, forward secrecy, AEAD, certificates on both sides."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Tls

# RFC 9325, 4.2; TLS 1.3 brings its own.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of a door: no peer without a certificate that our authorities signed. OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.authorities)
    return context


class ServerTls:
    """The context of the door, made anew when the settings or the files change."""

    def __init__(self) -> None:
        self._made_of: tuple[object, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self, tls: Tls) -> ssl.SSLContext:
        """Give the context for `tls`; OSError or ssl.SSLError when its files are no good."""
        files = (tls.certificate, tls.key, tls.authorities)
        made_of = (tls, *(file.stat().st_mtime_ns for file in files))
        if self._context is None or made_of != self._made_of:
            self._context = server_context(tls)
            self._made_of = made_of
        return self._context
