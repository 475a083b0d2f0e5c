"""Series over gRPC, against a service that speaks Triton's protocol: every byte arrives, inline and beside a region."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from wetread_client import Client, Retry
from wetread_client.connect import connect
from wetread_client.fake import fake_segmentation
from wetread_client.shared_memory import SharedMemoryTransport

FILES = [bytes([number]) * (1000 + number) for number in range(1, 8)]


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves one pipeline of series; `by_name`: it reads regions that a request names."""

    def __init__(self) -> None:
        self.by_name = True
        self.answer = fake_segmentation()
        self.series: list[list[bytes]] = []
        self.regions: dict[str, str] = {}

    def ModelMetadata(self, request, context):  # noqa: N802 -- the service's own name
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        inputs = [tensor(name=name) for name in ("DICOM", "LENGTHS")]
        return service_pb2.ModelMetadataResponse(
            versions=["1"], inputs=inputs, outputs=[tensor(name=name) for name in self.answer.outputs]
        )

    def ModelConfig(self, request, context):  # noqa: N802
        response = service_pb2.ModelConfigResponse()
        if self.by_name:
            response.config.parameters["film_region"].string_value = "true"
        return response

    def SystemSharedMemoryRegister(self, request, context):  # noqa: N802
        self.regions[request.name] = request.key
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request, context):  # noqa: N802
        self.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request, context):  # noqa: N802
        described = {tensor.name: tensor for tensor in request.inputs}
        raw = list(request.raw_input_contents)
        lengths = np.frombuffer(raw.pop(), np.int64)
        assert list(described["LENGTHS"].shape) == [1, len(lengths)]
        assert described["LENGTHS"].datatype == "INT64"
        region = described["DICOM"].parameters["shared_memory_region"].string_param
        if "film_region" in request.parameters:
            assert raw == [b"\0"]
            name, size = request.parameters["film_region"].string_param.split(":")
            dicom = Path("/dev/shm", name).read_bytes()[: int(size)]
        elif region:
            assert not raw
            dicom = Path("/dev/shm", self.regions[region][1:]).read_bytes()[: described["DICOM"].shape[1]]
        else:
            (dicom,) = raw
            assert list(described["DICOM"].shape) == [1, len(dicom)]
        ends = np.cumsum(lengths).tolist()
        assert ends[-1] == len(dicom)
        self.series.append([dicom[start:end] for start, end in zip([0, *ends], ends, strict=False)])
        return self._answer([output.name for output in request.outputs])

    def _answer(self, wanted: list[str]):
        response = service_pb2.ModelInferResponse(model_version="1")
        for name in wanted:
            tensor = self.answer.outputs[name]
            response.outputs.add(name=name, datatype="UINT8", shape=tensor.shape)
            response.raw_output_contents.append(np.ascontiguousarray(tensor).tobytes())
        return response


@pytest.fixture
def service():
    server = grpc.server(ThreadPoolExecutor(2))
    made = Service()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(made, server)
    made.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(0).wait()


@pytest.mark.parametrize("way", ["grpc", "shm"])
@pytest.mark.parametrize("by_name", [True, False])
def test_every_file_of_a_series_arrives_whole_over_grpc(service, tmp_path, way, by_name):
    service.by_name = by_name
    paths = [tmp_path / str(number) for number in range(len(FILES))]
    for path, content in zip(paths, FILES, strict=True):
        path.write_bytes(content)
    with Client(service.url, "brain_mr", transport=way, retry=Retry(times=0)) as client:
        assert client.takes_series(10.0)
        for files in (FILES, paths):
            reading = client.read_series(files)
            assert (reading.segmentation == service.answer.outputs["SEGMENTATION"][0]).all()
    assert service.series == [FILES] * 2
    assert not service.regions


def test_a_region_can_stay_unnamed(service):
    transport = SharedMemoryTransport(connect(service.url, "grpc"), by_name=False)
    with Client(pipeline="brain_mr", transport=transport, retry=Retry(times=0)) as client:
        client.read_series(FILES)
    assert service.series == [FILES]
