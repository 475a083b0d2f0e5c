"""Checks that this machine and this Python can run the embedded server; `python -m wetread_embedded.preflight`."""

def check() -> None:
    """x."""
