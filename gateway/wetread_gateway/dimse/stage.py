"""The receiving process: one of several behind the same port."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wetread_gateway.dimse.door import Door

if TYPE_CHECKING:
    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)


def run(context: Context) -> None:
    """Serve the DICOM door until `context.stop` is set."""
    # It logs a traceback for every odd byte of a stranger; what matters of it the door says itself.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    left = context.spool.clean_incoming(context.slot)
    if left:
        LOG.warning("instances that were cut off by the last end of this process are removed", extra={"count": left})
    door = Door(context)
    LOG.info("the DICOM door is open on port %d", door.port)
    door.serve()
