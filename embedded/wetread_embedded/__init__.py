"""A real Triton Inference Server on any CPU, for development and tests."""

from wetread_embedded.config import ServerConfig
from wetread_embedded.heal import Heal
from wetread_embedded.server import EmbeddedTriton

__all__ = ["EmbeddedTriton", "Heal", "ServerConfig"]
