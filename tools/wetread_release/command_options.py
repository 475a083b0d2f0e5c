"""The options that the commands of `wetread release` share, and how their errors reach a human."""

from __future__ import annotations

import getpass
import os
import platform
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from wetread_client.rollout import Actor, RolloutError, StoreAway

from wetread_release.errors import ReleaseError
from wetread_release.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_release.release_site import Site

FAILED, USAGE = 1, 2

StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with releases, rollout and keys. Default: build/state of the checkout, /var/lib/wetread without.",
        show_default=False,
    ),
]
RegistryUrl = Annotated[
    str, typer.Option("--registry", help="Folder or fsspec URL of published releases. Default: in the state folder.")
]
RolloutsUrl = Annotated[
    str, typer.Option("--rollouts", help="Folder, or etcd://host:port/prefix. Default: in the state folder.")
]
KeysFolder = Annotated[
    Path | None,
    typer.Option("--keys", help="Folder of the signing key. Default: in the state folder.", show_default=False),
]
By = Annotated[str, typer.Option(help="Who takes this step. Default: this user on this machine.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it stays in the history.", show_default=False)]
ApprovedBy = Annotated[str, typer.Option(help="Who approved it.", show_default=False)]
TimeoutS = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the agents to carry it out.")]

console = Console(stderr=True)
"""Progress and remarks: stdout is for what was asked for."""


def open_site(state_dir: Path | None, registry: str, rollouts: str, keys: Path | None) -> Site:
    """Open the stores that the options name."""
    from wetread_release.release_site import Site, default_state, find_checkout  # noqa: PLC0415 - --help does without

    checkout = find_checkout()
    state = state_dir or default_state(checkout)
    return Site.open(Places(state, registry, rollouts, keys), checkout)


def acting(by: str, reason: str = "", approved_by: str = "") -> Actor:
    """Give who acts: `by`, or the user of this process and the machine's name."""
    return Actor(by or f"{_user()}@{platform.node()}", reason, approved_by)


def say(message: str) -> None:
    """Tell the human something on stderr."""
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def fail(command: str, message: str, code: int = FAILED) -> NoReturn:
    """End the command with a message."""
    say(f"wetread release {command}: {message}")
    raise typer.Exit(code)


@contextmanager
def told(command: str) -> Iterator[None]:
    """Turn what can go wrong into a message and an exit code."""
    try:
        yield
    except (ReleaseError, RolloutError) as error:
        fail(command, str(error))
    except StoreAway as error:
        fail(command, f"the rollouts cannot be reached: {error}")
    except OSError as error:
        fail(command, f"{error.filename or 'a file'}: {error.strerror or error}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"uid {os.getuid()}"
