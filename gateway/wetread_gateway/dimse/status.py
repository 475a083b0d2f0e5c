"""The status codes, command fields and UIDs of DIMSE that the door knows."""

from __future__ import annotations

from enum import IntEnum

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


class CommandField(IntEnum):
    """PS3.7, table E.1-1; a response has bit 15 set."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    C_CANCEL = 0x0FFF
    RESPONSE = 0x8000


class Status(IntEnum):
    """PS3.7, annex C, and for C-STORE PS3.4, table B.2-1."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_INSTANCE = 0x0117
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNIZED_OPERATION = 0x0211
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    CLASS_DIFFERS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
