"""`wetread doctor`: what is installed here and what answers there."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wetread_client.choosing import RULES
from wetread_client.cli import FAILED
from wetread_client.client import Client

# The module that tells whether an extra is installed.
EXTRAS = {
    "client": "pydicom",
    "preprocess": "imagecodecs",
    "embedded": "pytriton",
    "gateway": "pynetdicom",
    "release": "onnx",
    "models": "torch",
    "batch": "fsspec",
    "loadtest": "locust",
    "bench": "flask",
}


DEFAULT_URL = "http://127.0.0.1:8000"
SIGNS = {True: "[green]ok[/]", False: "[bold red]broken[/]", None: "[dim]-[/]"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `fine` is None where nothing is wrong but something is not there."""

    name: str
    fine: bool | None
    detail: str


def doctor(
    url: Annotated[
        str | None, typer.Option(help="The server to ask; http://127.0.0.1:8000 when no gateway is named either.")
    ] = None,
    pipeline: Annotated[str, typer.Option(help="The pipeline to ask for.")] = "chest_xray",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.", exists=True)] = None,
    config: Annotated[Path | None, typer.Option(help="A gateway's configuration: check all that it names.")] = None,
) -> None:
    """Check the installation, a server, and a gateway. Exits with 1 when something is broken."""
    try:
        checks = _installation()
        if config is None or url is not None:
            checks += _server(url or DEFAULT_URL, pipeline, ca)
        if config is not None:
            checks += _gateway(config)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    table = Table("check", "", "detail")
    for check in checks:
        table.add_row(check.name, SIGNS[check.fine], escape(check.detail))
    Console().print(table)
    if any(check.fine is False for check in checks):
        raise typer.Exit(FAILED)


def _installation() -> list[Check]:
    """Look at this Python and the extras in it."""
    checks = [Check("python", (3, 11) <= sys.version_info[:2] < (3, 13), platform.python_version())]
    checks.append(Check("numpy", True, importlib.metadata.version("numpy")))
    present = {extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module)}
    for extra in EXTRAS:
        hint = "installed" if extra in present else f"not installed: pip install 'wetread[{extra}]'"
        checks.append(Check(f"extra {extra}", True if extra in present else None, hint))
    if "embedded" in present:
        # A process of its own: the client imports nothing of ours, and a broken embedded server must not break this.
        command = [sys.executable, "-m", "wetread_embedded.preflight"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        report = (run.stdout or run.stderr).strip().removeprefix("ok: ")
        checks.append(Check("embedded server", run.returncode == 0, report))
    return checks


def _gateway(config: Path) -> list[Check]:
    """Check a gateway; the package that knows how comes with an extra, and imports this one."""
    try:
        gateway = importlib.import_module("wetread_gateway.doctor")
    except ModuleNotFoundError as error:
        return [Check("gateway", False, f"needs the package {error.name}: pip install 'wetread[gateway]'")]
    return [Check(name, fine, detail) for name, fine, detail in gateway.check_file(config)]


def _server(url: str, pipeline: str, ca: Path | None) -> list[Check]:
    """Ask the server; one that is not there is no fault of the installation, but broken for who wants to read."""
    with Client(url, pipeline, ca=ca) as client:
        if not client.is_live():
            return [Check("server", False, f"nothing answers at {url}; start one with `wetread serve`")]
        checks = [Check("server", True, f"answers at {url}")]
        ready = client.is_ready()
        releases = ", ".join(map(str, client.releases())) if ready else ""
        detail = f"ready, release {releases}" if ready else "not served; see the server's log"
        checks.append(Check(f"pipeline {pipeline}", ready, detail))
    others = [rule.pipeline for rule in RULES if rule.pipeline != pipeline]
    return checks + [_other_pipeline(url, other, ca) for other in others]


def _other_pipeline(url: str, pipeline: str, ca: Path | None) -> Check:
    """Look for a pipeline that was not asked for: where it is not served, nothing is broken."""
    with Client(url, pipeline, ca=ca) as client:
        ready = client.is_ready()
    detail = "ready" if ready else "not served; its model may not be there yet: `wetread release publish` puts one"
    return Check(f"pipeline {pipeline}", ready or None, detail)
