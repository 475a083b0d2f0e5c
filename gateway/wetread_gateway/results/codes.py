"""The coded concepts of our reports that do not come from a release (PS3.16; DCM and SNOMED CT unless named)."""

from __future__ import annotations

from pydicom.sr.coding import Code

PRESENT = Code("52101004", "SCT", "Present")  # CID 240
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")

PROBABILITY = Code("122157", "DCM", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("ml", "UCUM", "milliliter")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")  # CID 100
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # algorithm family
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # purpose of contributing equipment
COMMENT = Code("121106", "DCM", "Comment")

# TID 1500 allows a container of plain codes and texts beside, or in place of, the measurements.
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
CAD_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
NOTHING_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")
QUALITY = Code("111050", "DCM", "Quality Assessment")
UNUSABLE = Code("111235", "DCM", "Unusable - Quality renders image unusable")

# No standard code says that a report is withdrawn.
PRIVATE_SCHEME = "99WETREAD"
REPORT_STATUS = Code("REPORT_STATUS", PRIVATE_SCHEME, "Status of an earlier report")
WITHDRAWN = Code("WITHDRAWN", PRIVATE_SCHEME, "Withdrawn")
PATIENT_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")  # CID 7011; IHE IOCM
DERIVED_FROM = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
