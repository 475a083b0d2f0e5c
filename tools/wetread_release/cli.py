"""`wetread release`: build engines, pass the gate, publish, promote, roll back."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Build engines, pass the gate, publish, promote, roll back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def release() -> None:
    """Build engines, pass the gate, publish, promote, roll back."""
