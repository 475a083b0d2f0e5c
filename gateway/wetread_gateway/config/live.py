"""The configuration as it is now: a changed file is taken up, a broken one is not."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_gateway.config.bounds import INTAKE_NAME
from wetread_gateway.config.load import load
from wetread_gateway.errors import ConfigError
from wetread_gateway.state.folder import remembered

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.config.settings import Settings

LOG = logging.getLogger(__name__)


class LiveSettings:
    """The settings of `file`; ConfigError when it is broken at the start.

    `name`: this intake's; without it, the one that the state folder remembers, and before the first start the file's.
    """

    def __init__(self, file: Path, name: str = "") -> None:
        self.file = file
        self._stamp = self._look()
        settings = load(file)
        self._name = name or remembered(settings.gateway.state_dir) or settings.gateway.name
        if complaint := INTAKE_NAME.complaint(self._name):
            raise ConfigError(complaint)
        self.current: Settings = self._named(settings)
        self._lock = threading.Lock()

    def poll(self) -> bool:
        """Take the file up when it has changed; True when there are new settings. A broken file leaves the old ones."""
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            try:
                self.current = self._named(load(self.file))
            except ConfigError as error:
                LOG.error("the changed configuration is not taken up: %s", error)
                return False
            return True

    def _named(self, settings: Settings) -> Settings:
        """Give the settings under the name that the intake has started with."""
        return replace(settings, gateway=replace(settings.gateway, name=self._name))

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)
