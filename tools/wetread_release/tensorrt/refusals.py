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
    """Put both lists together, a node that both name once: as the rules explain it, but NVIDIA says it."""
    found = list(dict.fromkeys(rules))
    places = {refusal.node: index for index, refusal in reversed(list(enumerate(found)))}
    for refusal in compiler:
        place = places.get(refusal.node)
        if place is None:
            found.append(refusal)
        else:
            found[place] = replace(found[place], by=refusal.by)
    return tuple(found)
