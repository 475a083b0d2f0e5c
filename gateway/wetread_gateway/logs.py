"""Logs as JSON lines: a study by its key, never a name, never a free text of a file."""

from __future__ import annotations

import json
import logging
import sys
import time

# What may stand in `extra`; anything else is a mistake that the formatter drops. `process` is a record's own: its pid.
FIELDS = ("study", "work", "destination", "peer", "association", "status", "reason", "rule", "count", "ms", "slot")


class JsonFormatter(logging.Formatter):
    """One JSON object a record."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(process: str, level: str = "INFO") -> None:
    """Send this process's log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # They log what peers sent, names included.
    for chatty in ("pynetdicom", "pydicom", "highdicom", "httpx", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
