"""The DICOM conformance statement and the IHE integration statement, made from the code's own tables."""
