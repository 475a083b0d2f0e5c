"""What TensorRT does not take: the node, why, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

By = Literal["rule", "parser", "compiler"]


@dataclass(frozen=True)
class Refusal:
    """One thing that is in the way."""

    node: str
    """The node's name, or the input's or output's; `file` where the whole file is meant."""
    operator: str
    """`Conv`; `input`, `output`, `weight` or `opset` where it is no operator."""
    why: str
    remedy: str
    by: By = "rule"
    """Who says so: our rules, or NVIDIA's parser or compiler."""

    def __str__(self) -> str:
        said = "our rules" if self.by == "rule" else f"TensorRT's {self.by}"
        return f"{self.operator} {self.node}: {self.why} ({said}). {self.remedy}"

    def as_json(self) -> dict[str, str]:
        """Give the fields for a JSON document."""
        return asdict(self)


def joined(rules: Iterable[Refusal], compiler: Iterable[Refusal]) -> tuple[Refusal, ...]:
    """Put both lists together, each node once: NVIDIA's words say why, our rules know the remedy."""
    by_node: dict[str, Refusal] = {}
    for refusal in rules:
        by_node.setdefault(refusal.node, refusal)
    for refusal in compiler:
        known = by_node.get(refusal.node)
        if known is None:
            by_node[refusal.node] = refusal
        elif known.by == "rule":
            by_node[refusal.node] = replace(refusal, remedy=known.remedy)
    return tuple(by_node.values())
