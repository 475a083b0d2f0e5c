"""The `wetread` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from wetread_client.errors import WetreadError

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, USAGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: where its function or typer app is, the extra that brings what it needs, and its one line."""

    name: str
    target: str
    extra: str
    help: str


COMMANDS = (
    Command("serve", "wetread_embedded.cli:serve", "embedded", "Serve the pipelines on this machine's CPU."),
    Command("read", "wetread_client.read_command:read", "client", "Read films and series, print what was found."),
    Command(
        "preprocess",
        "wetread_preprocess.command:preprocess",
        "preprocess",
        "Make a volume or an image of DICOM files, without a server.",
    ),
    Command(
        "gateway", "wetread_gateway.cli:app", "gateway", "Take studies from a PACS, read them, write the results back."
    ),
    Command(
        "release", "wetread_release.cli:app", "release", "Build engines, pass the gate, publish, promote, roll back."
    ),
    Command("rollout", "wetread_client.rollout.command:app", "client", "Show and set which release reads whom."),
    Command("model", "wetread_models.cli:app", "models", "Train, evaluate and describe models."),
    Command(
        "batch",
        "wetread_client.batch.command:batch",
        "batch",
        "Read an archive of studies, with checkpoints, at leisure.",
    ),
    Command(
        "simulate", "wetread_bench.simulate_command:app", "bench", "Replay a day of arrivals against an autoscaler."
    ),
    Command("bench", "wetread_bench.cli:app", "bench", "Measure throughput and latency."),
    Command("doctor", "wetread_client.doctor:doctor", "client", "Check the installation and a server."),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when all went well, 1 when something failed, 2 for a wrong call."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_overview())
        return OK if words else USAGE
    if words[0] in ("--version", "-V", "version"):
        print(f"wetread {importlib.metadata.version('wetread')}")
        return OK
    command = next((command for command in COMMANDS if command.name == words[0]), None)
    if command is None:
        close = get_close_matches(words[0], [command.name for command in COMMANDS])
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"wetread: no such command: {words[0]!r}.{hint} See `wetread --help`.", file=sys.stderr)
        return USAGE
    return _call(command, words[1:])


def _call(command: Command, words: list[str]) -> int:
    import typer  # noqa: PLC0415 -- the overview does without

    module, _, name = command.target.partition(":")
    try:
        target = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("wetread_"):
            raise  # not a missing extra but a broken installation
        print(
            f"wetread {command.name} needs the package {error.name}: pip install 'wetread[{command.extra}]'",
            file=sys.stderr,
        )
        return USAGE
    if isinstance(target, typer.Typer):
        app = target
    else:
        # No pretty tracebacks: they print local variables, and those hold patients' data.
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(help=command.help if not target.__doc__ else None)(target)
    try:
        app(args=words, prog_name=f"wetread {command.name}")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else OK if ended.code is None else FAILED
    except WetreadError as error:
        print(f"wetread: {error}", file=sys.stderr)
        return FAILED
    except ImportError as error:  # a library that a command imports at use
        print(f"wetread: {error}", file=sys.stderr)
        return USAGE
    return OK


def _overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join(
        [
            "Usage: wetread COMMAND [OPTIONS]",
            "",
            "DICOM in, an AI result back, on NVIDIA Triton. Not for clinical use.",
            "",
            "Commands (`wetread COMMAND --help` tells their options):",
            *lines,
            "",
            "  --version  Print the version.",
        ]
    )
