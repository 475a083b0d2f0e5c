"""`wetread serve`."""

import logging
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
    *,
    http_port: Annotated[int, typer.Option(help="TCP port of HTTP, 0 for a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="TCP port of gRPC, 0 for a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="TCP port of the Prometheus metrics, 0 for a free one.")] = 8002,
    agent_port: Annotated[int, typer.Option(help="TCP port of the release agent's probes and metrics; 0: none.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with releases/, rollout/, keys/ and served/. Default: build/state of the checkout."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the served copy. Default: served in the state folder.")
    ] = None,
    registry: Annotated[
        str, typer.Option(help="Where releases are published: a folder or fsspec URL. Default: in the state folder.")
    ] = "",
    rollouts: Annotated[
        str, typer.Option(help="The rollout store: a folder or etcd://host:port/prefix. Default: in the state folder.")
    ] = "",
    keys: Annotated[
        Path | None, typer.Option(help="Folder whose trusted/*.pem sign what is served. Default: in the state folder.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make the served copy anew, compiled models included; releases stay.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the server's log.")] = False,
) -> None:
    """Serve every pipeline's promoted release with an embedded Triton; what is not published yet, from this checkout.

    The release agent beside it follows `wetread release` and `wetread rollout`, and brings dead models back. A release
    that does not load, or whose files were changed, is not served: the last good one is, and the log says why.
    """
    if host not in LOOPBACK:
        print(
            f"WARNING: listening on {host}. This server version (2.51) has known vulnerabilities that let a caller "
            "take over the machine. Never do this with real patients or on an open network: production is NVIDIA's "
            "current container.",
            file=sys.stderr,
        )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("wetread_release").setLevel(logging.INFO)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        config = replace(
            ServerConfig(),
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            agent_port=agent_port,
            host=host,
            store=store or (state_dir / "served" if state_dir else None),
            state=state_dir,
            releases=registry,
            rollouts=rollouts,
            keys=keys,
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
