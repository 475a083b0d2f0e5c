"""`wetread release`: build engines, pass the gate, publish, promote, roll back."""

from __future__ import annotations

import typer

from wetread_release.agent_command import agent
from wetread_release.build_command import build
from wetread_release.gate_command import gate
from wetread_release.keygen_command import keygen
from wetread_release.list_command import list_releases
from wetread_release.new_command import new
from wetread_release.preflight_command import preflight
from wetread_release.promote_command import promote, rollback, withdraw
from wetread_release.publish_command import publish

app = typer.Typer(
    help="Build engines, pass the gate, publish, promote, roll back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def release() -> None:
    """Build engines, pass the gate, publish, promote, roll back."""


for _name, _function in (
    ("preflight", preflight),
    ("new", new),
    ("build", build),
    ("gate", gate),
    ("publish", publish),
    ("promote", promote),
    ("rollback", rollback),
    ("withdraw", withdraw),
    ("list", list_releases),
    ("keygen", keygen),
    ("agent", agent),
):
    app.command(_name)(_function)
