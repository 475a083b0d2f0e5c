"""`wetread release promote`, `rollback` and `withdraw`."""

from typing import TYPE_CHECKING, Annotated

import typer

from wetread_release.command_options import (
    ApprovedBy,
    By,
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

if TYPE_CHECKING:
    from wetread_release.follow import Outcome

Pipeline = Annotated[str, typer.Argument(help="For example chest_xray.")]
WAIT_S = 60.0


def promote(
    pipeline: Pipeline,
    release: Annotated[
        int | None, typer.Argument(help="The candidate that is meant. Default: whichever it is.", show_default=False)
    ] = None,
    *,
    approved_by: ApprovedBy = "",
    reason: Reason = "",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave it half done when a server cannot; else it is undone.")
    ] = False,
    by: By = "",
    timeout_s: TimeoutS = WAIT_S,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
) -> None:
    """Make the candidate stable: from then on it reads everybody. Needs --approved-by and --reason.

    Every running server must serve the candidate before. Where one cannot make it stable all go back. A promotion that
    was broken off is finished by the same command.
    """
    with told("promote"):
        from wetread_release import promotion  # noqa: PLC0415 - --help does without
        from wetread_release.progress_line import patience  # noqa: PLC0415

        site, actor = open_site(state_dir, registry, rollouts, None), acting(by, reason, approved_by)
        with patience(timeout_s) as wait:
            outcome = promotion.promote(site, pipeline, actor, wait, keep_going=keep_going, release=release)
        _tell(outcome)


def rollback(
    pipeline: Pipeline,
    *,
    to: Annotated[
        int | None, typer.Option(min=1, help="The release to go back to. Default: the one before.", show_default=False)
    ] = None,
    approved_by: ApprovedBy = "",
    reason: Reason = "",
    by: By = "",
    timeout_s: TimeoutS = WAIT_S,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
) -> None:
    """Go back to the release before, at once; nothing is asked. A candidate is dropped.

    A second rollback changes nothing, or it would go back to the bad release: name that one with --to.
    """
    with told("rollback"):
        from wetread_release import promotion  # noqa: PLC0415 - --help does without
        from wetread_release.progress_line import patience  # noqa: PLC0415

        site, actor = open_site(state_dir, registry, rollouts, None), acting(by, reason, approved_by)
        with patience(timeout_s) as wait:
            outcome = promotion.rollback(site, pipeline, actor, wait, to=to)
        _tell(outcome)


def withdraw(
    pipeline: Pipeline,
    *,
    reason: Reason = "",
    by: By = "",
    timeout_s: TimeoutS = WAIT_S,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
) -> None:
    """Drop the candidate; the stable release reads everybody."""
    with told("withdraw"):
        from wetread_release import promotion  # noqa: PLC0415 - --help does without
        from wetread_release.progress_line import patience  # noqa: PLC0415

        site = open_site(state_dir, registry, rollouts, None)
        with patience(timeout_s) as wait:
            outcome = promotion.withdraw(site, pipeline, acting(by, reason), wait)
        _tell(outcome)


def _tell(outcome: "Outcome") -> None:
    rollout = outcome.rollout
    say(f"{rollout.pipeline}: release {rollout.stable or 'none'} is stable ({rollout.act} by {rollout.by})")
    if rollout.candidate:
        say(f"the candidate is release {rollout.candidate}")
    say(outcome.summary)
