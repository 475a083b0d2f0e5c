"""`wetread serve`."""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from wetread_embedded.config import ServerConfig
from wetread_embedded.errors import EmbeddedError
from wetread_embedded.server import EmbeddedTriton

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    http_port: Annotated[int, typer.Option(help="TCP port of HTTP, 0 for a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="TCP port of gRPC, 0 for a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="TCP port of the Prometheus metrics, 0 for a free one.")] = 8002,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    store: Annotated[
        Path | None, typer.Option(help="Folder of the served copy; build/state/served if not told.")
    ] = None,
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="Empty the store first, compiled models included.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the server's log.")] = False,
) -> None:
    """Serve all pipelines of this checkout with an embedded Triton."""
    if host not in LOOPBACK:
        print(
            f"WARNING: listening on {host}. This server version (2.51) has known vulnerabilities that let a caller "
            "take over the machine. Never do this with real patients or on an open network: production is NVIDIA's "
            "current container.",
            file=sys.stderr,
        )
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        config = replace(
            ServerConfig(),
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            host=host,
            store=store,
            fresh=fresh,
            on_log=_show if verbose else None,
            on_heal=lambda heal: print(heal, flush=True),
        )
        with EmbeddedTriton(config) as server:
            print(f"HTTP {server.http_url}   gRPC {server.grpc_url}   metrics {server.metrics_url}")
            print(f"log {config.log_path}")
            print(f"ready: {', '.join(server.pipelines)}", flush=True)
            server.wait()
            print("the server ended by itself; its last words:", *server.last_words(), sep="\n", file=sys.stderr)
            raise typer.Exit(1)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except (EmbeddedError, FileNotFoundError, ValueError) as error:
        print(f"wetread serve: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop in order at the first signal, whether starting or serving, and let no second one break that off."""
    for signal_number in SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
