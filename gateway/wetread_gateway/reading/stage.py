"""The reader's process: works of the store, read on Triton over shared memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wetread_gateway.reading.pipeline import Pipelines
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.store_worklist import StoreWorklist

if TYPE_CHECKING:
    from wetread_gateway.bell import Bell
    from wetread_gateway.context import Context


def run(context: Context) -> None:
    """Read until the context says stop."""
    wake = threading.Event()
    bell = context.bell("read")
    ringer = threading.Thread(target=_listen, args=(bell, wake, context.stop), name="bell", daemon=True)
    ringer.start()
    with Pipelines(lambda: context.settings.triton.url) as pipelines:
        reader = Reader(
            StoreWorklist(context),
            pipelines,
            f"{context.home}/{context.slot}" if context.home else context.slot,
            lambda: context.settings.triton,
            wake,
            way=context.right_of_way(),
        )
        reader.run(context.stop)
    context.stop.set()
    ringer.join()
    bell.close()


def _listen(bell: Bell, wake: threading.Event, stop: threading.Event) -> None:
    while not stop.is_set():
        if bell.wait():
            wake.set()
    wake.set()
