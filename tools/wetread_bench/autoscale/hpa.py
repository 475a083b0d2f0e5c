"""The autoscaler: several metrics, windows, policies and bounds, as Kubernetes' horizontal.go has them.

Names in backquotes are that file's: `computeReplicasForMetrics`, `stabilizeRecommendationWithBehaviors`,
`convertDesiredReplicasWithBehaviorRate`, `normalizeDesiredReplicas`, `reconcileAutoscaler`
(kubernetes/kubernetes, pkg/controller/podautoscaler, as of 1.33 with its fields of tolerance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread_bench.autoscale.replicas import DEFAULTS, NoMetric, Tolerances, proposal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_bench.autoscale.manifest import Manifest, Rules
    from wetread_bench.autoscale.replicas import Controller, PodStatus, Readings


@dataclass(frozen=True)
class Decision:
    """What one sync came to. `proposals`: by metric, None where it had no value."""

    replicas: int
    proposals: dict[str, int | None] = field(default_factory=dict)
    why: str = ""


class Autoscaler:
    """One HorizontalPodAutoscaler and what the controller remembers of it."""

    def __init__(self, manifest: Manifest, controller: Controller = DEFAULTS) -> None:
        self.manifest = manifest
        self.controller = controller
        self._tolerances = Tolerances.of(manifest, controller)
        self._recommendations: list[tuple[float, int]] = []
        self._added: list[tuple[float, int]] = []
        self._removed: list[tuple[float, int]] = []

    def sync(self, now: float, replicas: int, pods: Sequence[PodStatus], readings: Readings) -> Decision:
        """Decide on the replicas from now on (`reconcileAutoscaler`); `replicas`: those wanted so far."""
        manifest = self.manifest
        if replicas > manifest.max_replicas:
            decision = Decision(manifest.max_replicas, {}, "more than the most")
        elif replicas < manifest.min_replicas:
            decision = Decision(manifest.min_replicas, {}, "fewer than the least")
        else:
            decision = self._computed(now, replicas, pods, readings)
        self._remember(now, decision.replicas - replicas)
        return decision

    def _computed(self, now: float, replicas: int, pods: Sequence[PodStatus], readings: Readings) -> Decision:
        """`computeReplicasForMetrics`: the most that a metric asks for; one without a value forbids only to shrink."""
        proposals: dict[str, int | None] = {}
        for metric in self.manifest.metrics:
            try:
                proposals[metric.title] = proposal(
                    metric, replicas, pods, readings, self._tolerances, self.controller, now
                )
            except NoMetric:
                proposals[metric.title] = None
        valid = [each for each in proposals.values() if each is not None]
        if not valid or (len(valid) < len(proposals) and max(valid) < replicas):
            return Decision(replicas, proposals, "a metric has no value")
        wanted = max(valid)
        if self.manifest.up is None or self.manifest.down is None:
            return Decision(self._without_behaviour(now, replicas, wanted), proposals)
        stable = self._stabilised(now, replicas, wanted, self.manifest.up, self.manifest.down)
        return Decision(self._limited(now, replicas, stable, self.manifest.up, self.manifest.down), proposals)

    def _without_behaviour(self, now: float, replicas: int, wanted: int) -> int:
        """`normalizeDesiredReplicas`: the highest of the window; at most twice as many, or four, at once."""
        window_s = self.controller.downscale_stabilisation_s
        self._recommendations = [each for each in self._recommendations if each[0] >= now - window_s]
        highest = max([wanted, *(value for _, value in self._recommendations)])
        self._recommendations.append((now, wanted))
        most = min(self.manifest.max_replicas, max(2 * replicas, 4))
        return min(max(highest, self.manifest.min_replicas), most)

    def _stabilised(self, now: float, replicas: int, wanted: int, up: Rules, down: Rules) -> int:
        """`stabilizeRecommendationWithBehaviors`: grow to the lowest of a window, shrink to the highest of another."""
        longest = max(up.window_s, down.window_s)
        self._recommendations = [each for each in self._recommendations if each[0] >= now - longest]
        lowest = min([wanted, *(value for at, value in self._recommendations if at > now - up.window_s)])
        highest = max([wanted, *(value for at, value in self._recommendations if at > now - down.window_s)])
        self._recommendations.append((now, wanted))
        return min(max(replicas, lowest), highest)

    def _limited(self, now: float, replicas: int, wanted: int, up: Rules, down: Rules) -> int:
        """`convertDesiredReplicasWithBehaviorRate`: no faster than the policies, within the bounds."""
        if wanted > replicas:
            limit = max(replicas, self._up_limit(now, replicas, up))
            return min(wanted, limit, self.manifest.max_replicas)
        if wanted < replicas:
            limit = min(replicas, self._down_limit(now, replicas, down))
            return max(wanted, limit, self.manifest.min_replicas)
        return wanted

    def _up_limit(self, now: float, replicas: int, rules: Rules) -> int:
        """`calculateScaleUpLimitWithScalingRules`; a percentage is rounded up."""
        if rules.select == "Disabled":
            return replicas
        limits = []
        for policy in rules.policies:
            before = self._at_start(now, replicas, policy.period_s)
            grown = before + policy.value if policy.kind == "Pods" else math.ceil(before * (1 + policy.value / 100))
            limits.append(grown)
        return min(limits) if rules.select == "Min" else max(limits)

    def _down_limit(self, now: float, replicas: int, rules: Rules) -> int:
        """`calculateScaleDownLimitWithBehaviors`; what is left by a percentage is cut."""
        if rules.select == "Disabled":
            return replicas
        limits = []
        for policy in rules.policies:
            before = self._at_start(now, replicas, policy.period_s)
            left = before - policy.value if policy.kind == "Pods" else int(before * (1 - policy.value / 100))
            limits.append(left)
        return max(limits) if rules.select == "Min" else min(limits)

    def _at_start(self, now: float, replicas: int, period_s: int) -> int:
        """Give the replicas at the start of a period (`getReplicasChangePerPeriod`)."""
        added = sum(count for at, count in self._added if at > now - period_s)
        removed = sum(count for at, count in self._removed if at > now - period_s)
        return replicas - added + removed

    def _remember(self, now: float, change: int) -> None:
        """`storeScaleEvent`."""
        rules = [each for each in (self.manifest.up, self.manifest.down) if each]
        longest = max((policy.period_s for each in rules for policy in each.policies), default=0)
        if change > 0:
            self._added = [each for each in self._added if each[0] >= now - longest] + [(now, change)]
        elif change < 0:
            self._removed = [each for each in self._removed if each[0] >= now - longest] + [(now, -change)]
