"""A site with two releases that answer differently: what the checkout ships, and the same with wider probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner
from wetread_client.rollout.command import app as rollout_app
from wetread_release.checkout import shipped_pipeline
from wetread_release.cli import app as release_app

if TYPE_CHECKING:
    import typer

CHECKOUT = Path(__file__).parents[1]
APPROVED = ("--approved-by", "a test", "--reason", "to see who is read by what")


def publish_wider(draft: Path, state: Path) -> None:
    """Publish a candidate of `chest_xray` whose temperature is three times that of the shipped release.

    `draft`: a folder to be made. `state`: that of a server that runs with its agent.
    """
    shipped_pipeline(CHECKOUT, "chest_xray").lay_out(draft)
    document = draft / "parts" / "postprocess" / "pipeline.json"
    content = json.loads(document.read_bytes())
    for finding in content["findings"]:
        finding["temperature"] *= 3.0
    document.write_text(json.dumps(content))
    release_command(state, "publish", draft, "--force", "its temperature is made up")


def release_command(state: Path, *words: object) -> str:
    """Run `wetread release`; give what it printed."""
    return _run(release_app, state, (*words, "--timeout", "240"))  # on a busy machine


def rollout_command(state: Path, *words: object) -> str:
    """Run `wetread rollout`; give what it printed."""
    return _run(rollout_app, state, words)


def _run(app: typer.Typer, state: Path, words: tuple[object, ...]) -> str:
    result = CliRunner().invoke(app, [*map(str, words), "--state-dir", str(state)])
    assert result.exit_code == 0, result.output
    return result.output
