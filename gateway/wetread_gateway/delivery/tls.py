"""TLS towards a DICOM peer, as BCP 195 has it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from wetread_gateway.dimse.tls import CIPHERS
from wetread_gateway.errors import Unreachable

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Tls


def client_context(tls: Tls | None) -> ssl.SSLContext:
    """Make the context of a caller that shows its certificate; Unreachable when a file is missing or broken.

    Made anew for every association: a renewed certificate is taken up without a restart.
    """
    if tls is None:
        raise Unreachable("TLS is asked for, but [dicom.tls] names no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    try:
        context.load_verify_locations(tls.authorities)
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one too
        raise Unreachable(f"the files of [dicom.tls] cannot be used: {error.strerror or error}") from error
    return context
