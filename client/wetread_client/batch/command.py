"""`wetread batch`: an archive of studies in, JSON Lines out, at leisure and never twice."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from wetread_client.batch.archive import Archive
from wetread_client.batch.desk import DeskOptions
from wetread_client.batch.gateway_queue import GatewayQueue
from wetread_client.batch.inventory import Inventory, Layout, Shard
from wetread_client.batch.out import FolderOut
from wetread_client.batch.out_objects import ObjectOut
from wetread_client.batch.pace import Pace, Window, parse_duration
from wetread_client.batch.run import Batch, run
from wetread_client.cli import FAILED
from wetread_client.client import Client
from wetread_client.connect import Way, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread_client.batch.out import Out

T = TypeVar("T")


def batch(
    source: Annotated[
        str, typer.Argument(help="A folder or fsspec URL (s3://...), or a manifest: a .txt or .jsonl of paths.")
    ],
    *,
    out: Annotated[
        str, typer.Option(help="Folder or fsspec URL for the results; the same again resumes.", show_default=False)
    ] = "",
    url: Annotated[
        str, typer.Option(help="Triton: http://, https://, grpc:// or grpcs:// host:port.")
    ] = "http://127.0.0.1:8000",
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline that reads all; else each by its modality and body part.")
    ] = None,
    index: Annotated[
        int, typer.Option(min=0, envvar="JOB_COMPLETION_INDEX", help="Which share this process reads, from 0.")
    ] = 0,
    of: Annotated[int, typer.Option(min=1, help="How many shares there are.")] = 1,
    layout: Annotated[
        Layout,
        typer.Option(
            help="folders: what lies in one folder belongs together. files: each file is a film; none is opened to "
            "list it. headers: every file is opened, by every share, to find the series."
        ),
    ] = "folders",
    study_depth: Annotated[
        int, typer.Option(min=0, help="Studies are the folders so far below SOURCE; others' are not even listed.")
    ] = 0,
    list_only: Annotated[
        Path | None, typer.Option(help="Only list, into a manifest that can be a SOURCE.", dir_okay=False)
    ] = None,
    rescan: Annotated[bool, typer.Option("--rescan", help="List SOURCE again, for new studies.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what has failed.")] = False,
    any_body_part: Annotated[bool, typer.Option("--any-body-part", help="Read whatever part a file names.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Films or series under way at once.")] = 2,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds for each film or series.")] = None,
    patience: Annotated[
        str, typer.Option(help="How long a server that answers may lack a pipeline before its studies are left.")
    ] = "5m",
    deadline: Annotated[str | None, typer.Option(help="End after so long (45m, 8h); the next call goes on.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many films and series.")] = None,
    between: Annotated[str | None, typer.Option(help="Read at these hours only, such as 20:00-06:00.")] = None,
    max_rate: Annotated[float | None, typer.Option(min=0.001, help="Films and series a second, at most.")] = None,
    yield_to: Annotated[
        str | None, typer.Option(help="http(s)://host:port of a gateway; while work waits there nothing is sent.")
    ] = None,
    yield_above: Annotated[int, typer.Option(min=0, help="How much may wait there all the same.")] = 0,
    yield_token_file: Annotated[
        Path | None, typer.Option(help="File with the gateway's bearer token.", exists=True)
    ] = None,
    yield_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authorities that the gateway's certificate is of.", exists=True)
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.", exists=True)] = None,
    transport: Annotated[Way, typer.Option(help="How films and series travel.")] = "auto",
    scratch: Annotated[
        Path | None, typer.Option(help="Folder where remote files lie while they are read.", file_okay=False)
    ] = None,
) -> None:
    """Read an archive of studies, with checkpoints, at leisure. Results are JSON Lines in the folder --out; killed at
    any moment, the same call goes on where it was. Exits with 0 when all was read or refused, 1 when some failed or is
    left, 2 for a wrong call. Not for clinical use."""
    inventory = Inventory(Archive(), _plain(source), layout, study_depth)
    shard = Shard(index, of)
    if index >= of:
        raise typer.BadParameter(f"share {index} of {of}: shares count from 0", param_hint="--index")
    if list_only is not None:
        _list(inventory, shard, list_only)
        return
    if not out:
        raise typer.BadParameter("say where the results go", param_hint="--out")
    _told("--url", lambda: connect(url, transport, ca).close())
    queue = (
        None if yield_to is None else _told("--yield-to", lambda: GatewayQueue(yield_to, yield_token_file, yield_ca))
    )
    pace = Pace(
        window=None if between is None else _told("--between", lambda: Window.parse(between)),
        max_rate=max_rate,
        queue=queue,
        yield_above=yield_above,
        deadline_s=None if deadline is None else _told("--deadline", lambda: parse_duration(deadline)),
        limit=limit,
    )
    options = DeskOptions(
        pipeline=pipeline,
        any_body_part=any_body_part,
        timeout_s=timeout,
        patience_s=_told("--patience", lambda: parse_duration(patience)),
        scratch=scratch,
    )
    told = Batch(
        inventory=inventory,
        shard=shard,
        out=_open_out(out),
        connect=lambda name: Client(url, name, transport=transport, ca=ca),
        options=options,
        pace=pace,
        concurrency=concurrency,
        rescan=rescan,
        retry_failed=retry_failed,
    )
    with _gentle_end(pace):
        summary = run(told)
    typer.echo(str(summary))
    if not summary.is_well:
        raise typer.Exit(FAILED)


def _list(inventory: Inventory, shard: Shard, manifest: Path) -> None:
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for entry in inventory.entries(shard):
            count += 1
            yield entry.line()

    if manifest.suffix not in (".jsonl", ".ndjson"):
        raise typer.BadParameter(f"a manifest ends in .jsonl: {manifest}", param_hint="--list-only")
    FolderOut(manifest.parent).put(manifest.name, lines())
    typer.echo(f"{count:,} entries in {manifest}")


def _plain(source: str) -> str:
    """Give a local path in full, so that results tell where a file is and the same folder has one name."""
    if "://" in source:
        return source.rstrip("/") if len(source.split("://", 1)[1]) > 1 else source
    return os.path.abspath(source)  # noqa: PTH100 -- without `..`, but with the links as they are called


def _open_out(out: str) -> Out:
    if out.startswith("file://"):
        out = out.removeprefix("file://")
    try:
        return ObjectOut(out) if "://" in out else FolderOut(Path(out))
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror or error}", param_hint="--out") from error


def _told(option: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@contextmanager
def _gentle_end(pace: Pace) -> Iterator[None]:
    """Let SIGTERM and the first Ctrl-C end the run after what is under way; a second Ctrl-C ends it at once."""

    def end(number: int, _frame: object) -> None:
        pace.stop(signal.Signals(number).name)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
