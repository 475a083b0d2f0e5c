"""What the settings name by a file: a secret, or the store's address with a password in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.config.settings import Gateway


def first_line(file: Path) -> str:
    """Give what stands in a file of one secret; OSError, UnicodeDecodeError."""
    return file.read_text("utf-8").partition("\n")[0].strip()


def store_url(gateway: Gateway) -> str:
    """Give the address of the state store, of `store` or of `store_file`; empty for SQLite."""
    return gateway.store if gateway.store_file is None else first_line(gateway.store_file)
