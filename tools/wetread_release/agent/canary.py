"""A least request to a model, to tell a live one from a dead one."""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from wetread_embedded.errors import ServerCallFailed

if TYPE_CHECKING:
    from wetread_embedded.rest import Rest

# What a request gets whose process died before or under it; any other answer comes from a process that lives.
DEAD_STUB = re.compile(r"Stub process '[^']*' is not healthy|[Tt]he stub process .*(restart|exited)")
BYTES_PER_ELEMENT = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Canary:
    """The request: zeros in every input, one where the configuration leaves a dimension open."""

    path: str
    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of_versions(cls, model: str, config: Mapping[str, object]) -> dict[str, Self]:
        """Make a canary for each version that the configuration's policy names; without names, one for the latest."""
        policy = config.get("version_policy")
        specific = policy.get("specific") if isinstance(policy, Mapping) else None
        versions = specific.get("versions", ()) if isinstance(specific, Mapping) else ()
        canary = cls.of(model, config)
        if not versions:
            return {"": canary}
        paths = {str(version): f"/v2/models/{model}/versions/{version}/infer" for version in versions}
        return {version: replace(canary, path=path) for version, path in paths.items()}

    @classmethod
    def of(cls, model: str, config: Mapping[str, object]) -> Self:
        """Make the canary of a model from Triton's JSON of its configuration."""
        batched = int(str(config.get("max_batch_size", 0))) > 0
        inputs: list[dict[str, object]] = []
        data = b""
        entries = config.get("input", [])
        assert isinstance(entries, Sequence)
        for entry in entries:
            data_type = str(entry["data_type"]).removeprefix("TYPE_").replace("STRING", "BYTES")
            dims = [max(int(dim), 1) for dim in entry["dims"]]  # -1 is open
            shape = [1, *dims] if batched else dims
            zeros = _zeros(data_type, math.prod(shape))
            parameters = {"binary_data_size": len(zeros)}
            inputs.append({"name": entry["name"], "shape": shape, "datatype": data_type, "parameters": parameters})
            data += zeros
        request = {"id": "canary", "inputs": inputs, "parameters": {"binary_data_output": True}}
        head = json.dumps(request).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        return cls(f"/v2/models/{model}/infer", head + data, headers)

    def find_dead(self, rest: "Rest") -> str:
        """Send the canary, wait as long as it takes; return the server's words where the process is dead, else ''."""
        try:
            rest.call("POST", self.path, self.body, dict(self.headers), timeout_s=None)
        except ServerCallFailed as error:
            return error.message if DEAD_STUB.search(error.message) else ""
        return ""


def _zeros(data_type: str, count: int) -> bytes:
    if data_type == "BYTES":
        return struct.pack("<I", 0) * count  # each string's length
    return bytes(BYTES_PER_ELEMENT[data_type] * count)
