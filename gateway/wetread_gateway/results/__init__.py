"""The results of a reading: structured reports, captures, key objects and FHIR, made by pure functions."""
