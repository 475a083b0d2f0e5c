"""The agent of an embedded server: the entry point `wetread.serve`."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from wetread_client.rollout.open import open_store
from wetread_embedded import stubs
from wetread_embedded.gentle import raise_again

from wetread_release.agent.agent import Agent, AgentSettings
from wetread_release.agent.carry_out import CarryOut
from wetread_release.agent.check import GoldenCheck
from wetread_release.agent.control import Control
from wetread_release.agent.healer import Healer
from wetread_release.agent.health import AgentHealth, unready
from wetread_release.agent.idle import IdleCompiler
from wetread_release.agent.record import Record
from wetread_release.agent.served import ServedCopy
from wetread_release.agent.source import Source
from wetread_release.agent.start import Start
from wetread_release.agent.swap import Swap
from wetread_release.device import CPU_TARGET, cpu_device
from wetread_release.places import Places
from wetread_release.registries import open_registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_embedded import Heal, ServerConfig
    from wetread_embedded.rest import Rest
    from wetread_embedded.store import Store

LOG = logging.getLogger(__name__)


class Attendant:
    """Makes the served copy before the server starts; then follows the rollouts and heals.

    `target`, `device`: which parts of a release the server takes, and whose gate records it is held to.
    `cache`: of the embedded server's compiled models, None where another Triton is served. `prefix`: of its shared
    memory, empty where its processes cannot be seen.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Path,
        places: Places,
        *,
        target: str,
        device: str,
        cache: Path | None = None,
        prefix: str = "",
        name: str = "",
    ) -> None:
        self._config, self._cache, self._prefix = config, cache, prefix
        self._served = ServedCopy(store / "model_repository", store / "ensembles")
        self._golden = store / "golden"
        self._lock = threading.Lock()
        self._rollouts = open_store(places.rollouts_url)
        self._record = Record.load(store / "agent.json")
        self._target, self._device = target, device
        self._name = name or f"{socket.gethostname()}-{hashlib.sha256(os.fsencode(store)).hexdigest()[:6]}"
        registry = open_registry(places.registry_url)
        self._source = Source(registry, places.keys_folder / "trusted", store / "manifests", store)
        self.start_state = Start(config.root, self._served, self._source, self._rollouts, self._record, self._target)
        self._healer: Healer | None = None
        self._agent: Agent | None = None
        self._closing = ExitStack()

    @property
    def heals(self) -> Sequence[Heal]:
        """What was healed so far, oldest first."""
        return self._healer.heals if self._healer else ()

    @property
    def watched_pids(self) -> Sequence[int]:
        """The process ids whose death is noticed at once."""
        return self._healer.watched_pids if self._healer else ()

    @property
    def healer(self) -> Healer | None:
        """What heals, once it runs."""
        return self._healer

    @property
    def agent(self) -> Agent | None:
        """What follows the rollouts, once it runs."""
        return self._agent

    @property
    def models(self) -> list[str]:
        """The models of the served copy."""
        return sorted(self._served.model_names())

    def prepare(self) -> None:
        """Make the served copy."""
        self.start_state.prepare()

    def fall_back(self, reasons: str) -> bool:
        """Put the last good release in the place of what did not load; False when there is none to try."""
        return self.start_state.fall_back(reasons)

    def start(self, rest: Rest) -> None:
        """Begin to heal and to follow."""
        config = self._config
        control = Control(rest, config.startup_timeout_s)
        if config.heal:
            self._healer = Healer(
                rest,
                self._served,
                self._prefix,
                canary_interval_s=config.canary_interval_s,
                load=control.load,
                lock=self._lock,
                on_heal=config.on_heal,
            )
            self._healer.start()
        compile_idle = IdleCompiler(self._served.models, self._cache) if self._cache else lambda _: None
        swap = Swap(self._served, control, self._target, compile_idle, self._settled)
        url = f"http://{rest.host}:{rest.port}"
        check = GoldenCheck(url, config.root, self._golden, self._device)
        carry_out = CarryOut(self._served, self._source, swap, control, self._record, self._target, check)
        settings = AgentSettings(self._name, self._target, self._device, url)
        self._agent = Agent(
            settings, self._rollouts, carry_out, self._lock, self.start_state.begun, on_change=self._changed
        )
        self._agent.start()
        if config.agent_port:
            health = AgentHealth(lambda: unready(rest, carry_out.pipelines_served()))
            health.follow(self)
            self._closing.enter_context(health.door(config.host, config.agent_port))

    def stop(self) -> None:
        """End: first the agent, then the healer."""
        self._closing.close()
        if self._agent is not None:
            self._agent.stop()
        if self._healer is not None:
            self._healer.stop()

    def _settled(self, model: str) -> None:
        """Give the processes of a model that was loaded gently their usual priority."""
        for stub in stubs.find(self._prefix) if self._prefix else ():
            if stub.model == model:
                raise_again(stub.pid)  # its decoding process is still busy starting

    def _changed(self, pipeline: str) -> None:
        LOG.info("%s was brought to its rollout", pipeline)
        for stub in stubs.find(self._prefix) if self._prefix else ():
            raise_again(stub.pid, children=True)
        if self._healer is not None:
            self._healer.look_again()


def attend(config: ServerConfig, store: Store) -> Attendant:
    """Return the agent for one embedded server."""
    places = Places(config.state_dir, config.releases, config.rollouts, config.keys)
    return Attendant(
        config, store.path, places, target=CPU_TARGET, device=cpu_device(), cache=store.cache, prefix=store.prefix
    )
