"""SOP classes that are answered and never read: what they hold is about images, or is no image (PS3.4, B.5)."""

from __future__ import annotations

_STORAGE = "1.2.840.10008.5.1.4.1.1."

# A class is looked up with the longest root that it has; a root ends in a dot, a class does not.
_NOT_READ: dict[str, str] = {
    f"{_STORAGE}9.": "a waveform",
    f"{_STORAGE}11.": "a presentation state",
    f"{_STORAGE}30": "a parametric map",
    f"{_STORAGE}34.": "a radiotherapy object",
    f"{_STORAGE}66": "raw data",
    f"{_STORAGE}66.": "a segmentation, registration, fiducials or tractography",
    f"{_STORAGE}67": "a real world value mapping",
    f"{_STORAGE}68.": "a surface scan",
    f"{_STORAGE}77.1.5.3": "a stereometric relationship",
    f"{_STORAGE}78.": "a measurement of the eye",
    f"{_STORAGE}79.1": "a macular grid report",
    f"{_STORAGE}80.1": "a visual field measurement",
    f"{_STORAGE}88.": "a structured report or key object selection",
    f"{_STORAGE}90.1": "a content assessment",
    f"{_STORAGE}104.": "an encapsulated document",
    f"{_STORAGE}200.": "a protocol",
    f"{_STORAGE}201.": "an inventory",
    f"{_STORAGE}481.": "a radiotherapy object",
    "1.2.840.10008.5.1.4.34.": "a radiotherapy instruction",
    "1.2.840.10008.5.1.4.38.": "a hanging protocol",
    "1.2.840.10008.5.1.4.39.": "a color palette",
    "1.2.840.10008.5.1.4.43.": "an implant template",
    "1.2.840.10008.5.1.4.44.": "an implant assembly",
    "1.2.840.10008.5.1.4.45.": "an implant template group",
}


def not_read(sop_class_uid: str) -> str:
    """Say what an object of this class is, when that is nothing to be read; else an empty text."""
    if what := _NOT_READ.get(sop_class_uid):
        return what
    at = len(sop_class_uid)
    while (at := sop_class_uid.rfind(".", 0, at)) > 0:
        if what := _NOT_READ.get(sop_class_uid[: at + 1]):
            return what
    return ""
