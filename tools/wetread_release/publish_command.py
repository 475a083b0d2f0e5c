"""`wetread release publish`."""

from pathlib import Path
from typing import Annotated

import typer

from wetread_release.command_options import (
    By,
    KeysFolder,
    Reason,
    RegistryUrl,
    RolloutsUrl,
    StateDir,
    TimeoutS,
    acting,
    open_site,
    say,
    told,
)


def publish(
    draft: Annotated[Path, typer.Argument(help="Folder of the draft, as build, new and gate left it.")],
    *,
    reason: Reason = "",
    force: Annotated[
        str, typer.Option(help="Publish what has not passed the gate, for this reason, which is kept.")
    ] = "",
    by: By = "",
    timeout_s: TimeoutS = 60.0,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
    keys: KeysFolder = None,
) -> None:
    """Sign a draft, put it into the registry under the next number, and have every server load it as candidate.

    The candidate reads nobody: it answers in the shadow of the stable release, until `wetread rollout set` or promote.
    A server that cannot serve it, or answers the golden films otherwise than the gate did, ends the publish: the
    release is withdrawn. The first publish of a pipeline also publishes what the checkout ships, as release 1.
    Broken off anywhere, the same command goes on.
    """
    with told("publish"):
        from wetread_release import publishing  # noqa: PLC0415 - --help does without
        from wetread_release.progress_line import patience  # noqa: PLC0415

        site = open_site(state_dir, registry, rollouts, keys)
        with patience(timeout_s) as wait:
            outcome = publishing.publish(draft, site, acting(by, reason), wait, force=force)
        rollout = outcome.rollout
        stable = rollout.stable or "none"
        say(f"{rollout.pipeline}: release {rollout.candidate} is the candidate, release {stable} is stable")
        say(outcome.summary)
        typer.echo(rollout.candidate)
