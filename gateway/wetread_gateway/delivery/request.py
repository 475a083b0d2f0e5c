"""Who is called, and the A-ASSOCIATE-RQ that calls (PS3.8 9.3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from wetread_gateway.spool.meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_gateway.config.settings import Tls

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
OUR_MAX_PDU = 65536


@dataclass(frozen=True, slots=True)
class Address:
    """An AE to call, and as whom. `timeout_s`: of connecting, and of each answer."""

    ae_title: str
    host: str
    port: int
    calling_ae: str
    timeout_s: float = 30.0
    tls: Tls | None = None
    wants_tls: bool = False


def encode_request(address: Address, proposals: Sequence[tuple[str, tuple[str, ...]]]) -> bytes:
    """Give the bytes of the request; `proposals` get the odd context ids from 1, in their order."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(APPLICATION_CONTEXT)
    request.calling_ae_title, request.called_ae_title = address.calling_ae, address.ae_title
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    version = ImplementationVersionNameNotification()
    longest.maximum_length_received = OUR_MAX_PDU
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request.user_information = [longest, implementation, version]
    contexts = []
    for position, (abstract_syntax, transfer_syntaxes) in enumerate(proposals):
        context = PresentationContext()
        context.context_id = 2 * position + 1
        context.abstract_syntax = UID(abstract_syntax)
        context.transfer_syntax = [UID(syntax) for syntax in transfer_syntaxes]
        contexts.append(context)
    request.presentation_context_definition_list = contexts
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    encoded: bytes = pdu.encode()
    return encoded
