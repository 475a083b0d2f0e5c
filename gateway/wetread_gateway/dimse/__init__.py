"""The DICOM door: a receiver that moves P-DATA to the spool without decoding it."""
