"""One process of the gateway, as the supervisor starts it: `python -m wetread_gateway.process STAGE SLOT ...`."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_gateway import logs
from wetread_gateway.audit import JsonLinesAudit
from wetread_gateway.config.files import store_url
from wetread_gateway.config.live import LiveSettings
from wetread_gateway.context import Context
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)

STAGES = {
    "receiver": "wetread_gateway.dimse.stage",
    "http": "wetread_gateway.web.stage",
    "triage": "wetread_gateway.triage.stage",
    "reader": "wetread_gateway.reading.stage",
    "reporter": "wetread_gateway.reporter",
    "delivery": "wetread_gateway.delivery.stage",
}
NICE = {"reporter": 10, "delivery": 10}
"""Nice values of the stages that nobody waits for at a door: where cores are short, a reading comes before an SR."""
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5


def make_context(config: Path, slot: str) -> Context:
    """Open what the process called `slot` shares with the others; ConfigError when the file is broken."""
    live = LiveSettings(config)
    folder = live.current.gateway.state_dir
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        slot=slot,
        live=live,
        spool=Spool(folder / "spool"),
        store=StateStore(folder, store_url(live.current.gateway)),
        audit=JsonLinesAudit(folder / "audit", slot),
        bells=folder / "bells",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage until it is told to stop."""
    parser = argparse.ArgumentParser(prog="wetread_gateway.process")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("slot")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--supervisor", type=int, help="end when this process, the parent, has ended")
    chosen = parser.parse_args(arguments)
    if chosen.supervisor is not None:
        die_with(chosen.supervisor)
    logs.set_up(chosen.slot)
    if chosen.stage in NICE:
        be_nice(NICE[chosen.stage])
    context = make_context(chosen.config, chosen.slot)
    threading.Thread(target=_watch, args=(context,), name="watch", daemon=True).start()
    try:
        stage = importlib.import_module(STAGES[chosen.stage])
        for number in (signal.SIGTERM, signal.SIGINT):  # only now: until here it has begun nothing, and may just die
            signal.signal(number, lambda *_: context.stop.set())
        stage.run(context)
    except Exception:
        LOG.exception("the stage failed and is started anew")
        return 1
    finally:
        context.siblings.close()
        context.store.close()
    return 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: the spool has one gateway at a time."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)


def be_nice(nice: int) -> None:
    """Let the other stages have the cores first.

    A kernel that groups processes by session (sched_autogroup) weighs the groups, and a nice value within one says
    nothing to the others: every stage has a session of its own. In a container there are no such groups.
    """
    os.nice(nice)
    with contextlib.suppress(OSError):  # no such groups, or no right to
        Path("/proc/self/autogroup").write_text(str(nice))


def _watch(context: Context) -> None:
    """Take up a changed configuration."""
    while not context.stop.wait(_POLL_S):
        context.live.poll()


if __name__ == "__main__":
    sys.exit(main())
