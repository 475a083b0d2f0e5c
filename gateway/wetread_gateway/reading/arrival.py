"""What a reader does first: it gives back what a former process of its name had leased."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wetread_gateway.errors import WorklistAway

if TYPE_CHECKING:
    from wetread_gateway.reading.worklist import Worklist

LOG = logging.getLogger(__name__)


def abandoned(worklist: Worklist, owner: str) -> bool:
    """Give it back; False when the worklist cannot be asked now."""
    try:
        worklist.abandon(owner)
    except WorklistAway as error:
        LOG.warning("the worklist cannot be asked", extra={"reason": str(error)})
        return False
    return True
