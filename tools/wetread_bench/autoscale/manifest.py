"""A HorizontalPodAutoscaler of autoscaling/v2, read from the file that ships."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Source = Literal["Resource", "ContainerResource", "Pods", "External"]
TargetKind = Literal["Utilization", "AverageValue", "Value"]
_FIELDS = {"Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "External": "external"}
_VALUES = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
_SUFFIXES = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(n|u|m|k|M|G|Ki|Mi|Gi|)")


class BadManifest(Exception):
    """No HorizontalPodAutoscaler of autoscaling/v2, or one that is not understood; the message says where."""


@dataclass(frozen=True)
class Metric:
    """One of `spec.metrics`."""

    source: Source
    name: str
    """Of the metric; of a resource, `cpu`."""
    target_kind: TargetKind
    target: float
    """A quantity; of a utilisation, percent."""
    container: str = ""

    @property
    def title(self) -> str:
        """For a reader."""
        return f"{self.source} {self.name}"


@dataclass(frozen=True)
class Policy:
    """So much may change within a period."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True)
class Rules:
    """One direction of `spec.behavior`. `tolerance`: None is the controller's own (a field since Kubernetes 1.33)."""

    window_s: int
    select: Literal["Max", "Min", "Disabled"]
    policies: tuple[Policy, ...]
    tolerance: float | None = None


# Where a field is absent: pkg/apis/autoscaling/v2/defaults.go, scaleUpRules and scaleDownRules.
DEFAULT_UP = Rules(0, "Max", (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))
DEFAULT_DOWN = Rules(300, "Max", (Policy("Percent", 100, 15),))


@dataclass(frozen=True)
class Manifest:
    """What the autoscaler is told. `up`, `down`: None where the manifest has no `behavior` at all."""

    min_replicas: int
    max_replicas: int
    metrics: tuple[Metric, ...]
    up: Rules | None = DEFAULT_UP
    down: Rules | None = DEFAULT_DOWN

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the one HorizontalPodAutoscaler among a file's documents."""
        try:
            documents = [each for each in yaml.safe_load_all(file.read_text()) if each]
        except yaml.YAMLError as error:
            raise BadManifest(f"{file} is no YAML: {error}") from error
        found = [each for each in documents if each.get("kind") == "HorizontalPodAutoscaler"]
        if len(found) != 1 or found[0].get("apiVersion") != "autoscaling/v2":
            raise BadManifest(f"{file} does not hold one HorizontalPodAutoscaler of autoscaling/v2")
        try:
            return cls.parse(found[0]["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadManifest(f"{file}: {type(error).__name__}: {error}") from error

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Self:
        """Take a `spec`."""
        behaviour = spec.get("behavior")
        up = down = None
        if behaviour is not None:
            up = _rules(behaviour.get("scaleUp") or {}, DEFAULT_UP)
            down = _rules(behaviour.get("scaleDown") or {}, DEFAULT_DOWN)
        metrics = tuple(_metric(each) for each in spec["metrics"])
        return cls(int(spec.get("minReplicas", 1)), int(spec["maxReplicas"]), metrics, up, down)


def quantity(text: object) -> float:
    """Read a Kubernetes quantity: `500m`, `1500`, `2k`."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SUFFIXES[found[2]]


def _metric(given: Mapping[str, Any]) -> Metric:
    source = given["type"]
    if source not in _FIELDS:
        raise ValueError(f"metrics of type {source} are not simulated")
    told = given[_FIELDS[source]]
    target = told["target"]
    kind = target["type"]
    name = told["name"] if source in ("Resource", "ContainerResource") else told["metric"]["name"]
    return Metric(source, name, kind, quantity(target[_VALUES[kind]]), told.get("container", ""))


def _rules(given: Mapping[str, Any], default: Rules) -> Rules:
    policies = tuple(
        Policy(each["type"], int(each["value"]), int(each["periodSeconds"])) for each in given.get("policies") or ()
    )
    tolerance = given.get("tolerance")
    return Rules(
        int(given.get("stabilizationWindowSeconds", default.window_s)),
        given.get("selectPolicy", default.select),
        policies or default.policies,
        None if tolerance is None else quantity(tolerance),
    )
