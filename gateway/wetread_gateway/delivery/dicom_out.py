"""A destination over DIMSE: C-STORE, C-FIND and storage commitment over one persistent association."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from pydicom.uid import (
    JPEG2000,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from wetread_gateway.delivery import commitment, statuses
from wetread_gateway.delivery.ask import STUDY_ROOT_FIND, find
from wetread_gateway.delivery.association import PLAIN, Association
from wetread_gateway.delivery.outlet import NotOffered
from wetread_gateway.delivery.request import Address
from wetread_gateway.delivery.statuses import Verdict
from wetread_gateway.delivery.upper_layer import Dropped
from wetread_gateway.errors import Refused, TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pydicom.dataset import Dataset

    from wetread_gateway.config.settings import Destination, Dicom
    from wetread_gateway.delivery.association import OnReport
    from wetread_gateway.delivery.outgoing import Outgoing
    from wetread_gateway.delivery.outlet import Reference
    from wetread_gateway.delivery.upper_layer import Context

    T = TypeVar("T")

# What the reporter makes.
DOCUMENTS = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, KeyObjectSelectionDocumentStorage)
IMAGES = (SecondaryCaptureImageStorage,)
SEGMENTATIONS = (SegmentationStorage,)
# How an image may be encoded beside the plain syntaxes; each in a context of its own, or a peer could take one for all.
ENCODED = (JPEG2000Lossless, JPEG2000, JPEGLSLossless, JPEGLosslessSV1, JPEGBaseline8Bit, RLELossless)

PROPOSALS: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((str(document), (syntax,)) for document in (*DOCUMENTS, *SEGMENTATIONS) for syntax in PLAIN),
    *((str(image), (str(syntax),)) for image in IMAGES for syntax in (*PLAIN, *ENCODED)),
    (commitment.PUSH_MODEL, PLAIN),
    (STUDY_ROOT_FIND, PLAIN),
)


def address_of(destination: Destination, dicom: Dicom) -> Address:
    """Give the address of a destination, called by us."""
    return Address(
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        calling_ae=dicom.ae_title,
        timeout_s=destination.timeout_s,
        tls=dicom.tls,
        wants_tls=destination.tls,
    )


class DicomPeer:
    """A destination over DIMSE, for one thread; its association is opened when needed and kept until `close`."""

    def __init__(self, address: Address, on_report: OnReport | None = None) -> None:
        self._address, self._on_report = address, on_report
        self._association: Association | None = None
        self._used_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an association is open, as far as we know."""
        return self._association is not None

    def store(self, objects: Sequence[Outgoing]) -> tuple[str, ...]:
        """C-STORE all of them; see `Outlet.store`."""
        warnings, refusals = [], []
        for outgoing in objects:
            try:
                warning = self._exchange(partial(_store, outgoing))
            except Refused as error:  # the others are worth having there, whatever becomes of this one
                refusals.append(error)
            else:
                warnings += [warning] if warning else []
        if refusals:
            raise refusals[0]
        return tuple(warnings)

    def named(self, references: Sequence[Reference]) -> frozenset[str]:
        """Ask by C-FIND for each of them; see `Inquiry.named`."""
        return frozenset(one.sop_instance_uid for one in references if self._exchange(partial(find, one)))

    def offers(self, abstract_syntax: str) -> bool:
        """Whether the peer has accepted this service; an association is opened to find out."""
        return self._exchange(lambda association: association.context(abstract_syntax) is not None)

    def request_commitment(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        """N-ACTION: ask for a report on all of them. NotOffered, TryAgain."""
        request = commitment.request(transaction_uid, references)
        status = self._exchange(partial(_request, request))
        if status in statuses.COMMITMENT_NOT_OFFERED:
            raise NotOffered(f"storage commitment is refused (0x{status:04X})")
        if status != 0:
            raise TryAgain(f"the commitment request failed (0x{status:04X})", status)

    def serve(self, timeout_s: float) -> bool:
        """Take what the peer sends unasked on the open association, a commitment report for one."""
        if self._association is None:
            return False
        try:
            return self._association.serve(timeout_s)
        except TryAgain:
            self._drop()
            return False
        except BaseException:
            self._drop()
            raise

    def close_idle(self, idle_s: float) -> None:
        """Close an association that has not been used for so long."""
        if self._association is not None and time.monotonic() - self._used_at >= idle_s:
            self.close()

    def close(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def _drop(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def _exchange(self, ask: Callable[[Association], T]) -> T:
        kept = self._association
        if kept is not None:
            try:
                while kept.serve():
                    continue
                return self._once(kept, ask)
            except Dropped:  # a peer may close what is idle at any moment: that is no failure of this object
                self._drop()
        self._association = Association(self._address, PROPOSALS, self._on_report)
        return self._once(self._association, ask)

    def _once(self, association: Association, ask: Callable[[Association], T]) -> T:
        try:
            return ask(association)
        except TryAgain as error:
            if error.status is None:  # no answer, or the association is gone
                self._drop()
            raise
        except (NotOffered, Refused):
            raise
        except BaseException:  # a message may be half sent
            self._drop()
            raise
        finally:
            self._used_at = time.monotonic()


def _store(outgoing: Outgoing, association: Association) -> str:
    context, dataset = _fitting(association, outgoing)
    status = association.store(context, outgoing.sop_instance_uid, dataset)
    meaning = statuses.of_store(status)
    if meaning.verdict in (Verdict.STORED, Verdict.WARNED):
        return "" if meaning.verdict is Verdict.STORED else f"{meaning.text} (0x{status:04X})"
    raise statuses.error(meaning, status, f"C-STORE of {outgoing.sop_instance_uid}")


def _fitting(association: Association, outgoing: Outgoing) -> tuple[Context, bytes | memoryview]:
    as_it_is = association.context(outgoing.sop_class_uid, outgoing.transfer_syntax_uid)
    if as_it_is is not None:
        return as_it_is, outgoing.dataset
    for syntax in PLAIN:
        if context := association.context(outgoing.sop_class_uid, syntax):
            return context, outgoing.as_syntax(syntax, implicit=syntax == ImplicitVRLittleEndian)
    raise Refused(f"it takes no objects of SOP class {outgoing.sop_class_uid}")


def _request(request: Dataset, association: Association) -> int:
    context = association.context(commitment.PUSH_MODEL)
    if context is None:
        raise NotOffered("storage commitment is not offered")
    return association.act(context, commitment.PUSH_MODEL_INSTANCE, commitment.REQUEST_ACTION, request)
