"""`wetread rollout`: show and set which release reads whom. Releases themselves change by `wetread release`."""

from __future__ import annotations

import getpass
import json
import os
import platform
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from wetread_client.cli import FAILED, USAGE
from wetread_client.rollout import Actor, Conflict, Key, Rollout, RolloutError, StoreAway, open_store, steps
from wetread_client.rollout.view import as_json, history_table, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread_client.rollout import RolloutStore

WRITER_WAIT_S = 10.0
"""Longer than the lease of a writer that was killed (etcd_store.LEASE_S)."""
IMAGE_STATE = Path("/var/lib/wetread")

app = typer.Typer(
    help="Show and set which release reads whom; in force within a second, without a restart.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Pipeline = Annotated[str, typer.Argument(help="For example chest_xray.")]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the rollouts. Default: build/state of the checkout, /var/lib/wetread without.",
        show_default=False,
    ),
]
RolloutsUrl = Annotated[
    str, typer.Option("--rollouts", help="Folder, or etcd://host:port/prefix. Default: in the state folder.")
]
By = Annotated[str, typer.Option(help="Who takes this step. Default: this user on this machine.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it stays in the history.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


@app.command()
def show(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one. Default: all.", show_default=False)] = None,
    *,
    print_json: AsJson = False,
    state_dir: StateDir = None,
    rollouts: RolloutsUrl = "",
) -> None:
    """Show what is in force: the arms, the candidate's share, the shadow, the key, and what each server reports."""
    with _told("show"):
        store = _open(state_dir, rollouts)
        shown = store.pipelines() if pipeline is None else (pipeline,)
        found = [(_in_force(store, name), store.reports(name)) for name in shown]
        if print_json:
            typer.echo(json.dumps({"rollouts": [as_json(*each) for each in found]}, indent=1))
        elif not found:
            typer.echo("no rollout here: every pipeline is read by the release that the servers ship")
        else:
            typer.echo("\n\n".join(summary(*each) for each in found))


@app.command("set")
def set_(
    pipeline: Pipeline,
    *,
    candidate: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Per cent of keys that the candidate reads.", show_default=False),
    ] = None,
    shadow: Annotated[
        Switch | None,
        typer.Option(help="Let the candidate also answer; that is stored, never sent.", show_default=False),
    ] = None,
    key: Annotated[
        Key | None, typer.Option(help="What an arm is assigned by; only while no share is set.", show_default=False)
    ] = None,
    light_model: Annotated[
        str | None,
        typer.Option(
            help="Pipeline that reads routine works in the place of this one; `off`: none.", show_default=False
        ),
    ] = None,
    approved_by: Annotated[
        str, typer.Option(help="Who approved that the candidate reads patients.", show_default=False)
    ] = "",
    reason: Reason = "",
    by: By = "",
    print_json: AsJson = False,
    state_dir: StateDir = None,
    rollouts: RolloutsUrl = "",
) -> None:
    """Change the candidate's share, the shadow, the key or the light model; what is not named stays.

    More of a share needs a passed (or forced) gate, --approved-by and --reason. A growing share only adds keys.
    """
    if candidate is None and shadow is None and key is None and light_model is None:
        _fail("set", "nothing to set: --candidate, --shadow, --key or --light-model", USAGE)
    if light_model == pipeline:
        _fail("set", f"{pipeline} cannot be its own light model", USAGE)

    def share(rollout: Rollout) -> Rollout:
        return steps.share(
            rollout,
            _actor(by, reason, approved_by),
            candidate_percent=candidate,
            shadow=None if shadow is None else shadow is Switch.ON,
            key=key,
            light_model="" if light_model == Switch.OFF else light_model,
        )

    with _told("set"):
        store = _open(state_dir, rollouts)
        with store.writer(pipeline, WRITER_WAIT_S):
            before = _in_force(store, pipeline)
            after = share(before)
            if after.candidate_percent > before.candidate_percent:
                _check_served(store, after)
            store.write(after)
        _print(store, after, print_json)


@app.command()
def abort(
    pipeline: Pipeline,
    *,
    reason: Reason = "",
    by: By = "",
    print_json: AsJson = False,
    state_dir: StateDir = None,
    rollouts: RolloutsUrl = "",
) -> None:
    """Give all to the stable release at once: no share, no shadow, no light model. The candidate stays loaded."""
    with _told("abort"):
        store = _open(state_dir, rollouts)
        after = _at_once(store, pipeline, lambda rollout: steps.abort(rollout, _actor(by, reason)))
        _print(store, after, print_json)


@app.command()
def history(
    pipeline: Pipeline,
    *,
    print_json: AsJson = False,
    state_dir: StateDir = None,
    rollouts: RolloutsUrl = "",
) -> None:
    """Show every step that was taken: who, when, why, who approved it, and what was in force after it."""
    with _told("history"):
        store = _open(state_dir, rollouts)
        _in_force(store, pipeline)
        taken = store.history(pipeline)
        if print_json:
            typer.echo(json.dumps({"history": [as_json(rollout) for rollout in taken]}, indent=1))
        else:
            from rich.console import Console  # noqa: PLC0415 -- as little as it can be before the table

            Console().print(history_table(pipeline, taken))


def find_state(start: Path | None = None) -> Path:
    """Give the state folder that is meant where none is named: that of the checkout, else that of images."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "model_repository").is_dir() and (folder / "ensembles").is_dir():
            return folder / "build" / "state"
    return IMAGE_STATE


def _open(state_dir: Path | None, rollouts: str) -> RolloutStore:
    return open_store(rollouts or str((state_dir or find_state()) / "rollout"))


def _in_force(store: RolloutStore, pipeline: str) -> Rollout:
    rollout = store.read(pipeline)
    if rollout is None:
        known = ", ".join(store.pipelines()) or "none"
        raise RolloutError(
            f"{pipeline} has no rollout here (there are: {known}); the first `wetread release publish` begins one"
        )
    return rollout


def _check_served(store: RolloutStore, rollout: Rollout) -> None:
    """Refuse a share for a candidate that some running server does not serve: its share would not be read by it."""
    lacking = [
        report.agent
        for report in store.reports(rollout.pipeline)
        if report.is_live and report.candidate != rollout.candidate
    ]
    if lacking:
        raise RolloutError(
            f"release {rollout.candidate} is not served by {', '.join(lacking)}: set the share "
            "when every server has it (`wetread rollout show`)"
        )


def _at_once(store: RolloutStore, pipeline: str, step: Callable[[Rollout], Rollout]) -> Rollout:
    """Take a step without the writer's lock: an abort waits for no publish that copies its files."""
    while True:
        after = step(_in_force(store, pipeline))
        try:
            store.write(after)
        except Conflict:
            continue  # somebody was quicker: the step is taken from what is in force now
        return after


def _print(store: RolloutStore, rollout: Rollout, print_json: bool) -> None:
    reports = store.reports(rollout.pipeline)
    typer.echo(json.dumps(as_json(rollout, reports), indent=1) if print_json else summary(rollout, reports))


def _actor(by: str, reason: str, approved_by: str = "") -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"uid {os.getuid()}"
    return Actor(by or f"{user}@{platform.node()}", reason, approved_by)


@contextmanager
def _told(command: str) -> Iterator[None]:
    """Turn what can go wrong into a message and an exit code."""
    try:
        yield
    except RolloutError as error:
        _fail(command, str(error))
    except StoreAway as error:
        _fail(command, f"{error}; what was in force stays in force")


def _fail(command: str, message: str, code: int = FAILED) -> NoReturn:
    typer.echo(f"wetread rollout {command}: {message}", err=True)
    raise typer.Exit(code)
