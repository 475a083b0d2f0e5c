"""What anybody would write first: a pynetdicom SCP that fsyncs each instance. The door is measured beside it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pynetdicom import AE, StoragePresentationContexts, evt

if TYPE_CHECKING:
    from pynetdicom.events import Event

LISTENING = "listening on "


def _store(event: Event, folder: Path) -> int:
    path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
    with path.open("wb") as file:
        file.write(event.encoded_dataset())
        file.flush()
        os.fsync(file.fileno())
    return 0


def main() -> None:
    """Serve on a free port until SIGTERM."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    entity = AE("WETREAD")
    entity.supported_contexts = StoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, _store, [folder])])
    sys.stdout.write(f"{LISTENING}{server.socket.getsockname()[1]}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
