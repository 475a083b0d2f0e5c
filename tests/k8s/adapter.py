"""Rules of prometheus-adapter, rendered as it renders them.

Its own text: docs/config.md and docs/externalmetrics.md of kubernetes-sigs/prometheus-adapter, and `Build` and
`BuildExternal` in its pkg/naming/metrics_query.go. A rule's query is a template with << and >>: `Series` is the name
that `seriesQuery` found; `LabelMatchers` the namespace and, for pods, the names, joined by | in one regular expression
where they are several; `GroupBy` the label of the resource that is asked for. An external query gets the namespace of
who asks and the selector's labels, and groups by nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Rule:
    """One rule; `kind` is the HPA's word for what it gives."""

    kind: str
    series_query: str
    labels: dict[str, str]
    """The label of each resource."""
    name: str
    template: str

    @property
    def series(self) -> str:
        """Give the one series' name that `series_query` asks for."""
        found = re.fullmatch(r"(\w+)\{.*\}", self.series_query)
        assert found, f"{self.series_query}: not one series"
        return found[1]

    def for_pods(self, namespace: str, names: Sequence[str]) -> str:
        """Give the query for some pods."""
        matcher = "=" if len(names) == 1 else "=~"
        matchers = [f'{self.labels["namespace"]}="{namespace}"', f'{self.labels["pod"]}{matcher}"{"|".join(names)}"']
        return self._filled(",".join(matchers), self.labels["pod"])

    def external(self, namespace: str) -> str:
        """Give the query of an HPA in a namespace."""
        return self._filled(f'{self.labels["namespace"]}="{namespace}"', "")

    def _filled(self, matchers: str, group_by: str) -> str:
        values = {"Series": self.series, "LabelMatchers": matchers, "GroupBy": group_by}
        query = re.sub(r"<<\s*\.(\w+)\s*>>", lambda found: values[found[1]], self.template)
        assert "<<" not in query, query
        return query


def rules(config: str) -> dict[str, Rule]:
    """Read the adapter's configuration; rules by the name that they give."""
    content = yaml.safe_load(config)
    assert set(content) == {"rules", "externalRules"}, "the adapter would not know it"
    found = [_rule("Pods", each) for each in content["rules"]]
    found += [_rule("External", each) for each in content["externalRules"]]
    assert len({rule.name for rule in found}) == len(found), "two rules give one name"
    return {rule.name: rule for rule in found}


def _rule(kind: str, content: dict[str, Any]) -> Rule:
    overrides = content["resources"]["overrides"]
    labels = {each["resource"]: label for label, each in overrides.items()}
    return Rule(kind, content["seriesQuery"], labels, content["name"]["as"], content["metricsQuery"])


def exposed(config: str) -> dict[str, str]:
    """Give the names that an HPA may use, with the type that it must call them by."""
    return {name: rule.kind for name, rule in rules(config).items()}
