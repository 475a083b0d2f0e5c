"""`wetread doctor --config FILE`: everything that must be right for a gateway, and how to mend what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_gateway.config.check import cautions
from wetread_gateway.config.load import load
from wetread_gateway.doctor import certificates, machine, network, work
from wetread_gateway.doctor.check import Check
from wetread_gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.config.settings import Settings

__all__ = ["Check", "check_file", "checks"]


def check_file(file: Path) -> list[Check]:
    """Check the gateway of a configuration; one that is broken is the only thing that is told."""
    try:
        settings = load(file)
    except ConfigError as error:
        return [Check("config", False, line) for line in str(error).splitlines()]
    return [Check("config", True, f"{file} is well-formed"), *checks(settings)]


def checks(settings: Settings) -> list[Check]:
    """Check what the settings name: files, this machine, the others on the network, and the work that waits."""
    running = machine.is_running(settings)
    return [
        *(Check("rules", None, caution) for caution in cautions(settings)),
        *certificates.checks(settings),
        *machine.checks(settings, running=running),
        *network.checks(settings),
        *work.checks(settings, running=running),
    ]
