"""A real Triton says which outputs a pipeline has, and refuses others in words that the client knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from films import film, to_bytes
from wetread_client.connect import connect
from wetread_client.errors import NoSuchOutput
from wetread_client.fake import OUTPUTS
from wetread_client.transport import BufferPayload, InferRequest

if TYPE_CHECKING:
    from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton


@pytest.mark.parametrize(("protocol", "way"), [("http", "shm"), ("grpc", "shm"), ("http", "http"), ("grpc", "grpc")])
def test_outputs_are_told_and_others_refused_by_name(server: EmbeddedTriton, protocol: str, way: str):
    transport = connect(server.http_url if protocol == "http" else server.grpc_url, way)
    try:
        (release,) = transport.versions("chest_xray", 10.0)
        assert transport.outputs("chest_xray", 10.0) == set(OUTPUTS)
        assert transport.outputs("chest_xray", 10.0, release) == set(OUTPUTS)
        film_bytes = BufferPayload(to_bytes(film(np.full((64, 64), 800, np.uint16))))
        request = InferRequest("chest_xray", film_bytes, ("PROBABILITY", "SEGMENTATION"))
        with pytest.raises(NoSuchOutput, match="SEGMENTATION"):
            transport.infer(request, 30.0)
    finally:
        transport.close()
