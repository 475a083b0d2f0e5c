"""What an agent tells of itself and its server: whether it lives, what is served, which models' processes are dead."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from wetread_client.health import Answer, HealthDoor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric
    from wetread_embedded.rest import Rest

    from wetread_release.agent.attend import Attendant
    from wetread_release.agent.healer import Sick

FAILED_HEALS = 3
DEAD_S = 60.0


class AgentHealth:
    """Answers the probes of one agent through all runs of its server, and is a collector of its metrics.

    `unready`: says why the server cannot be read with, or ''. A model whose healing has failed `failed_heals` times, or
    that is dead for `dead_s`, is given up: only a new start of the server helps then.
    """

    def __init__(self, unready: Callable[[], str], failed_heals: int = FAILED_HEALS, dead_s: float = DEAD_S) -> None:
        self._unready, self._failed_heals, self._dead_s = unready, failed_heals, dead_s
        self._attendant: Attendant | None = None
        self._healed: Counter[str] = Counter()  # in former runs of the server
        self._following = threading.current_thread()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def follow(self, attendant: Attendant) -> None:
        """Look at this one from now on."""
        self._attendant = attendant

    def let_go(self) -> None:
        """The server has ended, and its processes with it."""
        attendant, self._attendant = self._attendant, None
        if attendant is not None:
            self._healed += _healed(attendant)

    def door(self, host: str, port: int) -> HealthDoor:
        """Give the door that answers for it; a context."""
        routes = {
            "/healthz": lambda: Answer.of(self.illness()),
            "/readyz": lambda: Answer.of(self.illness() or self._unready()),
            "/stubs": lambda: Answer.of(self.given_up()),
            "/metrics": lambda: Answer(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST),
        }
        return HealthDoor(host, port, routes)

    def illness(self) -> str:
        """Say why the agent should be started anew, or ''."""
        attendant = self._attendant
        if not self._following.is_alive():
            return "the agent's thread has ended"
        if attendant is not None and attendant.agent is not None and not attendant.agent.is_alive:
            return "the thread that follows the rollouts has ended"
        if attendant is not None and attendant.healer is not None and not attendant.healer.is_alive:
            return "the thread that heals has ended"
        return ""

    def given_up(self) -> str:
        """Say which models stay dead, or ''."""
        now = time.monotonic()
        lost = {
            model: sick
            for model, sick in self._sick().items()
            if sick.failures >= self._failed_heals or now - sick.since > self._dead_s
        }
        return "; ".join(
            f"{model} is dead for {now - sick.since:.0f} s, healed {sick.failures} times in vain"
            for model, sick in sorted(lost.items())
        )

    def collect(self) -> Iterator[Metric]:
        """Give the agent's metrics."""
        attendant = self._attendant
        models = attendant.models if attendant is not None else []
        sick = self._sick()
        dead = GaugeMetricFamily(
            "wetread_agent_dead_stubs", "1: processes of the model are dead and not healed yet.", labels=["model"]
        )
        heals = CounterMetricFamily(
            "wetread_agent_heals", "How often a model was brought back with new processes.", labels=["model"]
        )
        healed = self._healed + (_healed(attendant) if attendant is not None else Counter())
        for model in sorted({*models, *healed}):
            dead.add_metric([model], float(model in sick))
            heals.add_metric([model], healed[model])
        release = GaugeMetricFamily(
            "wetread_agent_release", "The release that an arm answers with.", labels=["pipeline", "arm"]
        )
        settled = GaugeMetricFamily(
            "wetread_agent_settled", "1: what the rollout wants is served.", labels=["pipeline"]
        )
        agent = attendant.agent if attendant is not None else None
        if agent is not None:
            for (pipeline, arm), number in agent.releases().items():
                release.add_metric([pipeline, arm.value], number)
            for pipeline, is_settled in agent.settled().items():
                settled.add_metric([pipeline], float(is_settled))
        yield from (dead, heals, release, settled)

    def _sick(self) -> dict[str, Sick]:
        attendant = self._attendant
        return attendant.healer.sick if attendant is not None and attendant.healer is not None else {}


def unready(rest: Rest, pipelines: Sequence[str]) -> str:
    """Say which pipelines of a served copy cannot be read with, or ''."""
    missing = [pipeline for pipeline in pipelines if not rest.is_ready(pipeline)]
    if not pipelines:
        return "the served copy is not prepared"
    return f"not ready: {', '.join(missing)}" if missing else ""


def _healed(attendant: Attendant) -> Counter[str]:
    return Counter(heal.model for heal in attendant.heals if not heal.error)
