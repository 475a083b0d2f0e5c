"""One line on stderr that says how far the agents are while a command waits for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from wetread_release.command_options import console
from wetread_release.promotion import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_release.follow import Outcome


@contextmanager
def patience(timeout_s: float) -> Iterator[Patience]:
    """Show a spinner with the agents' progress; on what is no terminal nothing."""
    with console.status("reading the rollout") as status:

        def show(outcome: Outcome) -> None:
            waiting = ", ".join(f"{each.agent} ({each.message or each.state.value})" for each in outcome.waiting)
            status.update(f"{outcome.summary}{f', waiting for {waiting}' if waiting else ''}")

        yield Patience(timeout_s, show)
