"""`locust -f client/loadtest/locustfile.py`: see docs/load.md."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent  # type: ignore[import-untyped]  # it has no stubs
import grpc.experimental.gevent as grpc_gevent  # type: ignore[import-untyped]  # it has no stubs
from locust import events
from locust.runners import WorkerRunner
from wetread_loadtest.options import Options, add_to
from wetread_loadtest.run import Run
from wetread_loadtest.users import (
    DicomwebUser,
    PacsUser,
    ReadUser,
    SeriesUser,
    TritonGrpcUser,
    TritonHttpUser,
)

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

__all__ = ["DicomwebUser", "PacsUser", "ReadUser", "SeriesUser", "TritonGrpcUser", "TritonHttpUser"]

LOG = logging.getLogger("wetread_loadtest")
_LOOK_S = 0.2

grpc_gevent.init_gevent()  # else a call in flight would hold up every greenlet


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust's is
def _options(parser: LocustArgumentParser) -> None:
    add_to(parser)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust's is
def _begin(environment: Environment, **_kwargs: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        raise SystemExit("one process sends by one timetable: run several, each with its part of the rate")
    assert environment.parsed_options is not None
    Run.current = Run(Options.of(environment.parsed_options))
    gevent.spawn(_end_when_done, environment, Run.current)


def _end_when_done(environment: Environment, run: Run) -> None:
    """End the run when every user has played its timetable and heard its last answer."""
    gevent.sleep(run.options.seconds)
    while run.users_left:
        gevent.sleep(_LOOK_S)
    run.settle()
    if environment.runner is not None:
        environment.runner.quit()


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust's is
def _report(environment: Environment, **_kwargs: Any) -> None:
    run: Run | None = getattr(Run, "current", None)
    if run is None:
        return
    told = run.tally.told()
    LOG.info("written: %s", run.report())
    LOG.info(
        "offered %s, refused %s, failed %s, lost %s", *(told[name] for name in ("offered", "refused", "failed", "lost"))
    )
    # Refusals are the door's right; what failed or was lost is not.
    environment.process_exit_code = 1 if told["failed"] or told["lost"] else 0
