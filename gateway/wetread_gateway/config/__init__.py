"""The configuration: typed, strict, with a remedy for every mistake."""
