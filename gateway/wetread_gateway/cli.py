"""`wetread gateway`: run it, set it up, look into it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wetread_gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from wetread_gateway.context import Context

FAILED = 1
HERE = Path("gateway.toml")

app = typer.Typer(
    help="Take studies from a PACS, read them, write the results back. Not for clinical use.",
    add_completion=False,
    # No pretty tracebacks: they print local variables, and those hold patients' data.
    pretty_exceptions_enable=False,
)
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration; `gateway.toml` when not given.", show_default=False),
]


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    config: Config = None,
    name: Annotated[str, typer.Option(help="This intake's name, in place of gateway.name.", show_default=False)] = "",
) -> None:
    """Run the gateway until it is told to stop (SIGTERM, Ctrl-C). A changed configuration is taken up."""
    context.obj = config
    if context.invoked_subcommand is None:
        with _told():
            from wetread_gateway import supervisor  # noqa: PLC0415 -- the other commands do without

            supervisor.run(_chosen(context, None), name)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = HERE,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the options and the defaults.")] = False,
    state_dir: Annotated[Path, typer.Option(help="Folder of all that must not be lost.")] = Path("/var/lib/wetread"),
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "WETREAD",
    host: Annotated[str, typer.Option(help="Address of the DICOM door; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the DICOM door.")] = 11112,
    sender: Annotated[list[str] | None, typer.Option(help="An AE title that sends to us, beside the PACS.")] = None,
    pacs_ae_title: Annotated[str, typer.Option(help="AE title of the PACS.")] = "PACS",
    pacs_host: Annotated[str, typer.Option(help="Address of the PACS.")] = "127.0.0.1",
    pacs_port: Annotated[int, typer.Option(help="Port of the PACS.")] = 104,
    http_port: Annotated[int, typer.Option(help="Port of the HTTP door on this machine; 0: none.")] = 8080,
    triton_url: Annotated[str, typer.Option(help="The server that reads.")] = "http://127.0.0.1:8000",
) -> None:
    """Write a first, commented configuration from a few questions; never over one that is there."""
    from wetread_gateway.config.init import Answers, write  # noqa: PLC0415

    senders = ",".join(sender or ())
    if not yes:
        ae_title = typer.prompt("Our AE title", ae_title)
        host = typer.prompt("Address of the DICOM door (0.0.0.0 for all, 127.0.0.1 for this machine alone)", host)
        port = typer.prompt("Port of the DICOM door", port)
        pacs_ae_title = typer.prompt("AE title of the PACS that gets the results", pacs_ae_title)
        pacs_host = typer.prompt("Its address", pacs_host)
        pacs_port = typer.prompt("Its port", pacs_port)
        senders = typer.prompt("AE titles that send to us beside it, with commas between", senders)
        state_dir = Path(typer.prompt("Folder of all that must not be lost", str(state_dir)))
        http_port = typer.prompt("Port of the HTTP door on this machine (0: none)", http_port)
        triton_url = typer.prompt("Address of Triton", triton_url)
    titles = tuple(title.strip() for title in senders.split(",") if title.strip())
    answers = Answers(
        state_dir, ae_title, host, port, titles, pacs_ae_title, pacs_host, pacs_port, http_port, triton_url
    )
    with _told():
        write(file, answers)
    print(f"written: {file}")
    print(f"next: wetread gateway check --config {file}; wetread doctor --config {file}; tell the PACS of us")


@app.command()
def check(context: typer.Context, config: Config = None) -> None:
    """Read the configuration strictly: what it will do, or every mistake with its line and remedy."""
    from wetread_gateway.config.check import cautions, describe  # noqa: PLC0415
    from wetread_gateway.config.load import load  # noqa: PLC0415

    file = _chosen(context, config)
    with _told():
        settings = load(file)
    _show(map(escape, describe(settings)))
    _show(f"[yellow]mind:[/] {escape(caution)}" for caution in cautions(settings))
    print(f"{file} is fine")


@app.command()
def explain(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A DICOM file, of the spool or any other.", exists=True, dir_okay=False)],
    *,
    config: Config = None,
    calling_ae: Annotated[str, typer.Option(help="As if this AE had sent it.")] = "",
    called_ae: Annotated[str, typer.Option(help="As if it had been sent to this AE title of ours.")] = "",
) -> None:
    """Say which rule fires for a file, and why. It prints descriptions, which may hold names."""
    from wetread_gateway.config.load import load  # noqa: PLC0415
    from wetread_gateway.explain import explain as explained  # noqa: PLC0415

    with _told():
        _show(map(escape, explained(load(_chosen(context, config)), file, calling_ae, called_ae)))


@app.command()
def study(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="Its Study Instance UID.")],
    *,
    config: Config = None,
) -> None:
    """Show a study's life: received, rule, read, release, results, delivered, or what it waits for."""
    from wetread_gateway import operate  # noqa: PLC0415

    with _opened(context, config) as opened:
        lines = operate.timeline(opened, uid)
    if not lines:
        print(f"wetread gateway: no study {uid} came in, or its timeline was purged", file=sys.stderr)
        raise typer.Exit(FAILED)
    _show(lines)


@app.command()
def queue(context: typer.Context, config: Config = None) -> None:
    """Show what waits at each stage, for how long, what was given up and what no rule wanted."""
    from wetread_gateway import operate  # noqa: PLC0415

    with _opened(context, config) as opened:
        _show(operate.queue(opened))


@app.command()
def shadow(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="The pipeline whose candidate reads in shadow.")],
    *,
    config: Config = None,
) -> None:
    """Compare what a candidate said in shadow with what was reported: works, decisions, probabilities, by release."""
    from wetread_gateway.shadow_table import comparison  # noqa: PLC0415

    with _opened(context, config) as opened:
        lines = comparison(opened, pipeline)
    if not lines:
        print(f"wetread gateway: no candidate of {pipeline} has read in shadow here", file=sys.stderr)
        raise typer.Exit(FAILED)
    _show(lines)


@app.command()
def retry(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="`work:N`, `delivery:N` as `queue` shows them, or `all`.")],
    *,
    config: Config = None,
) -> None:
    """Take something out of the dead letter for another try."""
    from wetread_gateway import operate  # noqa: PLC0415

    with _opened(context, config) as opened:
        try:
            count = operate.retry(opened, what)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="WHAT") from error
    print(f"{count} {'is' if count == 1 else 'are'} tried again")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def reader(context: typer.Context) -> None:
    """Read for gateways elsewhere, beside a Triton: leases their work over HTTP. `--help` lists its options."""
    from wetread_gateway.reading import remote  # noqa: PLC0415

    raise typer.Exit(remote.main(context.args))


@app.command()
def reindex(context: typer.Context, config: Config = None) -> None:
    """Build the state store anew from the spool, which is the truth. The gateway must not be running."""
    from wetread_gateway.doctor.machine import is_running  # noqa: PLC0415
    from wetread_gateway.triage.reindex import reindex as build_anew  # noqa: PLC0415

    with _opened(context, config) as opened:
        if is_running(opened.settings):
            raise GatewayError(f"a gateway is running in {opened.settings.gateway.state_dir}: stop it first")
        found = build_anew(opened)
    print(f"indexed: {found.instances} instances, {found.works} works, {found.results} results")


def _chosen(context: typer.Context, config: Path | None) -> Path:
    """Give the file named behind the command, else before it, else the one in this folder."""
    before = context.obj
    return config or (before if isinstance(before, Path) else None) or HERE


def _show(lines: Iterable[RenderableType]) -> None:
    console = Console(soft_wrap=True)
    for line in lines:
        console.print(line)


@contextmanager
def _opened(context: typer.Context, config: Path | None) -> Iterator[Context]:
    """Open the state of a gateway, running or not, as its operator."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from wetread_gateway.process import make_context  # noqa: PLC0415

    file = _chosen(context, config)
    with _told():
        try:
            opened = make_context(file, "operator")
            try:
                yield opened
            finally:
                opened.store.close()
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error)
            raise GatewayError(
                f"the state store of {file} cannot be read ({reason}): `wetread doctor --config {file}` says more, and "
                "`wetread gateway reindex` builds one anew from the spool where it is gone"
            ) from error


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the gateway raises into its message and exit status 1."""
    try:
        yield
    except GatewayError as error:
        print(f"wetread gateway: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from error
