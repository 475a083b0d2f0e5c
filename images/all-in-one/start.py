"""The entry point of the demo image: the embedded Triton, then the gateway; both end when either does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = "/var/lib/wetread"
WARNING = (
    "DEMO ONLY: the Triton in this image (2.51) is old, has known vulnerabilities that let a caller take over the "
    "machine, and listens on loopback alone. Production is NVIDIA's current container. Not for clinical use."
)


def main(config: str) -> int:
    """Run both until SIGTERM or SIGINT, or until one ends; 0 when told to stop."""
    sys.stderr.write(WARNING + "\n")
    return asyncio.run(_run(config))


async def _run(config: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = asyncio.create_task(stop.wait())
    url = str(tomllib.loads(Path(config).read_text())["triton"]["url"])
    ports = ["--http-port", str(urlsplit(url).port or 8000), "--grpc-port", "0", "--metrics-port", "0"]
    triton = await _start("serve", "--state-dir", f"{STATE}/triton", *ports)
    try:
        ready = asyncio.create_task(_until_ready(f"{url}/v2/models/chest_xray/ready"))
        await asyncio.wait((told, ready, asyncio.create_task(triton.wait())), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if told.done() or triton.returncode is not None:
            return 0 if told.done() else 1
        gateway = await _start("gateway", "--config", config)
        try:
            ends = [asyncio.create_task(process.wait()) for process in (triton, gateway)]
            await asyncio.wait((told, *ends), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(gateway)
    finally:
        await _end(triton)
    return 0 if told.done() else 1


async def _start(*words: str) -> asyncio.subprocess.Process:
    # A session of its own: a Ctrl-C is this process's to pass on, in order.
    return await asyncio.create_subprocess_exec("wetread", *words, env=dict(os.environ), start_new_session=True)


async def _until_ready(url: str) -> None:
    """Wait until the server reads films."""
    while not await asyncio.to_thread(_is_ready, url):
        await asyncio.sleep(0.1)  # Triton tells nobody when it is ready


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- the configuration names it
            return bool(answer.status == 200)
    except OSError:
        return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await process.wait()


def _config(words: Sequence[str]) -> str:
    return words[0] if words else "/opt/wetread/demo/gateway.toml"


if __name__ == "__main__":
    sys.exit(main(_config(sys.argv[1:])))
