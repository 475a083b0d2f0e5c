"""NOTES: what one request's answer has to say beside itself, made of what preprocessing said of the source."""

import json
from typing import Any

_APART = ("warnings", "left_out", "timings_ms")
"""Keys of GEOMETRY that are about the request and not about the source; a film's has the first alone."""


class InvalidGeometry(ValueError):
    """GEOMETRY did not come from preprocessing; a caller of this model alone has made it up."""


def parse_geometry(geometry: bytes) -> dict[str, Any]:
    """Read GEOMETRY, a JSON object; InvalidGeometry when it is none."""
    try:
        document = json.loads(geometry)
    except ValueError as error:
        raise InvalidGeometry("GEOMETRY is not what preprocessing writes: a JSON object") from error
    if not isinstance(document, dict):
        raise InvalidGeometry("GEOMETRY is not what preprocessing writes: a JSON object")
    return document


def notes(source: dict[str, Any]) -> bytes:
    """Give NOTES, UTF-8 JSON: `warnings`, what else is about the request, and `geometry` with the rest of `source`."""
    apart = {"warnings": []} | {key: source[key] for key in _APART if key in source}
    rest = {key: value for key, value in source.items() if key not in _APART}
    return json.dumps(apart | {"geometry": rest}).encode()
