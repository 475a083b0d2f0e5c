"""Rollouts: which release reads whom. The document, its steps, the assignment, and the stores that keep it."""

from wetread_client.rollout.assign import assign, key_of, place
from wetread_client.rollout.document import Arm, Gate, Key, Rollout, RolloutError
from wetread_client.rollout.open import open_store
from wetread_client.rollout.steps import Actor
from wetread_client.rollout.store import AgentReport, AgentState, Conflict, RolloutStore, StoreAway, WriterBusy

__all__ = [
    "Actor", "AgentReport", "AgentState", "Arm", "Conflict", "Gate", "Key", "Rollout", "RolloutError", "RolloutStore",
    "StoreAway", "WriterBusy", "assign", "key_of", "open_store", "place",
]  # fmt: skip
