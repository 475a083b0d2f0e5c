"""Asking a peer by C-FIND: whether it holds an object, and how many images a series has there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from wetread_gateway.delivery.association import PLAIN, Association
from wetread_gateway.delivery.outlet import NotOffered
from wetread_gateway.delivery.request import Address
from wetread_gateway.errors import NotDelivered, TryAgain

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Dicom, Peer
    from wetread_gateway.delivery.outlet import Reference

STUDY_ROOT_FIND = str(StudyRootQueryRetrieveInformationModelFind)
COUNT_TIMEOUT_S = 5.0
# C-FIND answers that say "not here" (PS3.4 C.4.1.1.4): asking again would be no use.
_NOT_OFFERED = frozenset({0x0122, 0x0124, 0x0211, 0xA900})
_ANSWERED = frozenset({0x0000, 0xB001})  # the second: there would be more matches


def find(reference: Reference, association: Association) -> bool:
    """Ask whether the peer holds an object. NotOffered when it cannot be asked, TryAgain when it cannot say now."""
    query = _query("IMAGE", reference.study_uid, reference.series_uid)
    query.SOPInstanceUID = reference.sop_instance_uid
    return any(str(match.get("SOPInstanceUID", "")) == reference.sop_instance_uid for match in _ask(association, query))


def count_series(peer: Peer, dicom: Dicom, study_uid: str, series_uid: str) -> int | None:
    """Ask the source how many instances a series has there (PS3.4 C.3.4); None when it does not say."""
    if not peer.host or not peer.port:
        return None
    query = _query("SERIES", study_uid, series_uid)
    query.NumberOfSeriesRelatedInstances = None
    address = Address(peer.ae_title, peer.host, peer.port, dicom.ae_title, COUNT_TIMEOUT_S, dicom.tls, peer.tls)
    try:
        association = Association(address, ((STUDY_ROOT_FIND, PLAIN),))
        try:
            matches = _ask(association, query)
        finally:
            association.release()
    except (NotOffered, NotDelivered):
        return None
    ours = [match for match in matches if match.get("SeriesInstanceUID") == series_uid]
    counts = [int(match.get("NumberOfSeriesRelatedInstances") or 0) for match in ours]
    return next((count for count in counts if count > 0), None)


def _query(level: str, study_uid: str, series_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    return query


def _ask(association: Association, query: Dataset) -> list[Dataset]:
    context = association.context(STUDY_ROOT_FIND)
    if context is None:
        raise NotOffered("C-FIND is not offered")
    status, matches = association.find(context, query)
    if status in _NOT_OFFERED:
        raise NotOffered(f"C-FIND is refused (0x{status:04X})")
    if status not in _ANSWERED:
        raise TryAgain(f"C-FIND failed (0x{status:04X})", status)
    return matches
