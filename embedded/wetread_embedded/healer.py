"""Heal."""
from __future__ import annotations
from dataclasses import dataclass
@dataclass(frozen=True)
class Heal:
    """x."""
class Healer:
    """x."""
    def __init__(self, rest, store, canary_interval_s) -> None:
        self.heals=[]
    def start(self): ...
    def stop(self): ...
