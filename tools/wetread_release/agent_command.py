"""`wetread release agent`."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlsplit

import typer

from wetread_release.command_options import USAGE, KeysFolder, RegistryUrl, RolloutsUrl, StateDir, fail, say, told


def agent(
    store: Annotated[
        Path, typer.Option(help="Folder of the served copy; Triton reads model_repository/ and ensembles/ in it.")
    ],
    *,
    triton_url: Annotated[str, typer.Option(help="HTTP address of the Triton beside it.")] = "http://127.0.0.1:8000",
    triton_grpc_port: Annotated[
        int, typer.Option(help="Its gRPC port, over which it is told to load; 0: HTTP.")
    ] = 8001,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make the served copy and end: an init step before Triton starts.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Which engines the server takes, as sm_90-trt11. Default: what is found.")
    ] = "",
    name: Annotated[str, typer.Option(help="What its reports are kept by. Default: host and store.")] = "",
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
    keys: KeysFolder = None,
    load_timeout_s: Annotated[float, typer.Option(min=1.0, help="Seconds that a load may take.")] = 300.0,
    health_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz, /stubs and /metrics; 0: none.")
    ] = 0,
    # A kubelet and Prometheus ask from outside the pod; what they hear names no patient.
    health_host: Annotated[str, typer.Option(help="Address of that port.")] = "0.0.0.0",  # noqa: S104
) -> None:
    """Follow the rollouts beside a Triton: fetch, verify, load, check golden films, swap, heal, fall back, report.

    For Triton in NVIDIA's container, started with --model-control-mode=explicit over the same folder; no model need be
    named there, and it may be restarted at any time. `wetread serve` has its own agent inside.
    """
    address = urlsplit(triton_url)
    if address.scheme != "http" or not address.hostname:
        fail("agent", f"{triton_url} is no HTTP address like http://127.0.0.1:8000", USAGE)
    with told("agent"):
        from wetread_embedded import ServerConfig  # noqa: PLC0415 - --help does without
        from wetread_embedded.rest import Rest  # noqa: PLC0415

        from wetread_release.agent.attend import Attendant  # noqa: PLC0415
        from wetread_release.agent.sidecar import Sidecar  # noqa: PLC0415
        from wetread_release.device import this_device, this_target  # noqa: PLC0415
        from wetread_release.places import Places  # noqa: PLC0415
        from wetread_release.release_site import IMAGE_STATE, default_state, find_checkout  # noqa: PLC0415

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        checkout = find_checkout()
        places = Places(state_dir or default_state(checkout), registry, rollouts, keys)
        config = ServerConfig(root=checkout or IMAGE_STATE, store=store, startup_timeout_s=load_timeout_s)

        def attendant() -> Attendant:
            return Attendant(
                config, store.resolve(), places, target=target or this_target(), device=this_device(), name=name
            )

        sidecar = Sidecar(
            Rest(address.hostname, address.port or 8000, triton_grpc_port), store.resolve(), attendant, load_timeout_s
        )
        if prepare:
            sidecar.prepare()
            say(f"{store} is ready for a server")
            return
        stop = _until_told()
        if not health_port:
            sidecar.run(stop)
            return
        from wetread_release.agent.health import AgentHealth  # noqa: PLC0415

        sidecar.health = AgentHealth(sidecar.unready)
        with sidecar.health.door(health_host, health_port):
            sidecar.run(stop)


def _until_told() -> threading.Event:
    """Give an event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()

    def set_it(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, set_it)
    return stop
