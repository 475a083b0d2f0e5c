"""What ends a batch early.

BatchError       the call or its folders are at fault; the message says what to do
└── ArchiveAway  the archive cannot be listed or reached
"""

from __future__ import annotations

from wetread_client.errors import WetreadError


class BatchError(WetreadError):
    """The batch cannot go on as it was called."""

    def __init__(self, message: str) -> None:
        super().__init__("Batch", message)

    def __str__(self) -> str:
        return self.message


class ArchiveAway(BatchError):
    """The archive cannot be listed or reached."""
