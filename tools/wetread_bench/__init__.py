"""Benchmarks, chaos and soak runs."""
