"""The objects that the gateway makes: modules, templates, codes, and what is taken over and repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.uid import UID, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from wetread_gateway.conformance.markdown import code, table
from wetread_gateway.results import codes
from wetread_gateway.results.content import DEVICE_NAME, MANUFACTURER
from wetread_gateway.results.inherited import INHERITED
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.repair import _CODECS, _NEVER_ALONE
from wetread_gateway.results.report import MODEL, SERIES_NUMBERS, SOP_CLASSES
from wetread_gateway.results.uids import DEVICE_UID
from wetread_gateway.spool.meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator


def created() -> Iterator[str]:
    """Give the objects, their templates and their codes."""
    classes = {**SOP_CLASSES, ObjectKind.CAPTURE: SecondaryCaptureImageStorage}
    classes |= {ObjectKind.KEY_OBJECTS: KeyObjectSelectionDocumentStorage}
    content = dict.fromkeys(SOP_CLASSES, "TID 1500 Measurement Report")
    content |= {
        ObjectKind.CAPTURE: "the film with heatmap, legend and release, or a slice with its segments, JPEG Baseline, "
        "8 bit YBR_FULL_422"
    }
    content |= {ObjectKind.KEY_OBJECTS: "TID 2010, beside a withdrawal"}
    content |= {
        ObjectKind.SEGMENTATION: "the segments of a series on its own slices, BINARY, uncompressed, no empty frames"
    }
    rows = [(UID(uid).name, f"`{uid}`", content[kind], SERIES_NUMBERS[kind]) for kind, uid in classes.items()]
    yield table(("SOP class", "UID", "content", "Series Number"), rows)
    yield (
        "Every destination is configured with the richest report that it takes. Reports are COMPLETE, PRELIMINARY and "
        "UNVERIFIED. Each object lies in the patient's own study, in a series of its own. Its UIDs derive from the "
        "source SOP Instance UIDs, the kind and the number of the reading, under 2.25: an object built again is the "
        "same object. Objects are known as ours by their Contributing Equipment Sequence."
    )
    yield (
        "A Segmentation keeps the Frame of Reference, orientation and positions of its source images. Each frame "
        "refers to the image it lies on; images that were not read are not referred to. It is made where a pipeline "
        "segments, some pixel belongs to a segment, and the reading is within the intended use; the report that names "
        "it is sent after it. Segments are numbered from 1 in the order of the release's own table, from which their "
        "labels, categories, types and colours come."
    )
    attributes = [
        ("Manufacturer", MANUFACTURER),
        ("Manufacturer's Model Name", MODEL),
        ("Software Versions", "the release that read"),
        ("Contributing Equipment Sequence", f"{code(codes.PROCESSING_EQUIPMENT)}, algorithm and release"),
        ("Device Observer UID and Name (TID 1004)", f"`{DEVICE_UID}`, {DEVICE_NAME}"),
        ("Implementation Class UID (file meta)", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation Version Name (file meta)", f"`{IMPLEMENTATION_VERSION_NAME}`"),
        ("Predecessor Documents Sequence", "where a study is read again, corrected or withdrawn"),
        ("Referenced Request Sequence", "from the source's Request Attributes Sequence, where it has one"),
        ("Timezone Offset From UTC", "as in the source, else of this machine"),
    ]
    yield table(("attribute", "value"), attributes)
    yield "### Templates and codes of the reports"
    yield table(("where", "concept"), _template())
    yield (
        "Names and codes of findings come from the release's own table (SNOMED CT, RadLex, DCM), the first code of a "
        f"finding. Private codes have the scheme `{codes.PRIVATE_SCHEME}`, identified in the object."
    )


def _template() -> list[tuple[str, str]]:
    values = f"{code(codes.PRESENT)}, {code(codes.ABSENT)} or {code(codes.UNDETERMINED)}"
    return [
        ("TID 1204 Language", "as highdicom writes it"),
        ("TID 1002, 1004 Observer Context", f'(121007, DCM, "Device") {DEVICE_NAME}'),
        ("TID 1500 Procedure Reported", code(codes.IMAGING_PROCEDURE)),
        ("TID 1600, 1602, 1603 Image Library", "all images read, with their descriptors"),
        ("TID 1601 Image Library Group, many images", "common descriptors once, the images by reference"),
        ("TID 1501 Measurement group, one a finding", "Tracking Identifier and Tracking Unique Identifier"),
        ("TID 4019 Algorithm Identification", f"name, version (the release), {code(codes.ARTIFICIAL_INTELLIGENCE)}"),
        ("TID 1501 Qualitative Evaluation", f"the finding's code: {values}"),
        ("TID 300 Measurement", f"{code(codes.PROBABILITY)}, {code(codes.NO_UNITS)}; none where undetermined"),
        ("TID 1501 Source image", "the image that the finding was made on"),
        (
            "TID 1411 Volumetric ROI, one a segment",
            "the segment's category and type; Referenced Segment, Source Series",
        ),
        (
            "TID 300 Measurement of a segment",
            f"{code(codes.VOLUME)}, {code(codes.MILLILITRE)}; none where undetermined",
        ),
        ("Qualitative Evaluations container", code(codes.QUALITATIVE_EVALUATIONS)),
        ("its texts", f"{code(codes.COMMENT)}: completeness, warnings, reasons, release, intended use"),
        ("its codes, refused film", f"{code(codes.CAD_SUMMARY)} = {code(codes.NOTHING_SUCCEEDED)}"),
        ("its codes, refused film", f"{code(codes.QUALITY)} = {code(codes.UNUSABLE)}"),
        ("its codes, withdrawal", f"{code(codes.REPORT_STATUS)} = {code(codes.WITHDRAWN)}"),
        ("Key Object Selection title, withdrawal", code(codes.PATIENT_SAFETY)),
    ]


def coercion() -> Iterator[str]:
    """Give what is taken over from the source, and what is changed in it."""
    yield (
        "Instances received are kept as they were sent; nothing in them is coerced. Results take these attributes "
        "over from the source image, decoded and, where they break the standard, repaired or left empty. What was "
        "repaired is logged by its name. An identity that cannot be decoded whole is never guessed: no object is "
        "made, and the work goes to the dead letter with the reason."
    )
    rows = []
    for row in INHERITED:
        tag = tag_for_keyword(row.keyword)
        assert tag is not None
        kind = (
            "identity: as it is, or no object"
            if row.identity
            else "repaired, else empty"
            if row.always
            else "repaired, else left out"
        )
        rows.append((f"({tag >> 16:04X},{tag & 0xFFFF:04X})", dictionary_description(tag), row.vr, kind))
    yield table(("tag", "attribute", "VR", "where it is wrong"), rows)


def character_sets() -> Iterator[str]:
    """Give the character sets that are read and written."""
    single = ", ".join(f"`{name or '(none)'}`" for name in _CODECS)
    many = ", ".join(f"`{name}`" for name in sorted(_NEVER_ALONE))
    yield f"Read: {single}; with code extensions {many} and the others that pydicom knows."
    yield "Written: `ISO_IR 192` (UTF-8)."
    yield (
        "An empty first value and a set that may not stand alone are read as they are meant. A value that does not fit "
        "its character set is tried as UTF-8, and is undecodable otherwise."
    )
