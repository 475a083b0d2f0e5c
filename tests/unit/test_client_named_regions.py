"""Regions named to a pipeline: used where it says that it reads them, and no film is blamed where it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from wetread_client import Client, Rejected, Retry, Unavailable
from wetread_client.errors import Status, translate
from wetread_client.fake import fake_answer
from wetread_client.shared_memory import SharedMemoryTransport
from wetread_client.transport import InferAnswer, InferRequest, RegionSlice

NOT_FOUND = translate(Status.NOT_FOUND, "in ensemble 'chest_xray', RegionNotFound: the region cannot be opened")
ONE_BYTE = translate(Status.INVALID_ARGUMENT, "InvalidDicom: the file holds 1 bytes and is no DICOM file")
WRONG_PART = translate(Status.UNIMPLEMENTED, "UnsupportedImage: Body Part Examined (0018,0015) is HIP")


@dataclass
class Control:
    """A server as seen by the transport; `named` is what it makes of a film that a request names."""

    told: str | Exception | None = "true"
    named: Exception | None = None
    asked: int = 0
    films: list[tuple[str, bytes]] = field(default_factory=list)
    registered: dict[str, str] = field(default_factory=dict)

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        parameters = dict(request.parameters)
        if "film_region" in parameters:
            name, size = str(parameters["film_region"]).split(":")
            assert bytes(request.film.view()) == b"\0"
            self.films.append(("named", (Path("/dev/shm") / name).read_bytes()[: int(size)]))
            if self.named:
                raise self.named
        else:
            assert isinstance(request.film, RegionSlice)
            key = self.registered[request.film.region]
            self.films.append(("registered", (Path("/dev/shm") / key[1:]).read_bytes()[: request.film.size]))
        return fake_answer()

    def parameter(self, model: str, key: str, timeout_s: float) -> str | None:
        assert (model, key) == ("chest_xray", "film_region")
        self.asked += 1
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        return frozenset(fake_answer().outputs)

    def register_region(self, name: str, key: str, size: int, timeout_s: float) -> None:
        self.registered[name] = key

    def unregister_region(self, name: str, timeout_s: float) -> None:
        self.registered.pop(name, None)

    def close(self) -> None: ...


def read(control: Control, *films: bytes) -> list[tuple[str, bytes]]:
    with Client(transport=SharedMemoryTransport(control), retry=Retry(times=0)) as client:
        for film in films:
            client.read(film)
    assert not control.registered
    return control.films


def test_a_pipeline_that_reads_regions_is_told_their_names_and_asked_once():
    control = Control()
    assert read(control, b"first", b"second") == [("named", b"first"), ("named", b"second")]
    assert control.asked == 1


def test_a_pipeline_that_does_not_say_so_gets_registered_regions():
    control = Control(told=None)
    assert read(control, b"first", b"second") == [("registered", b"first"), ("registered", b"second")]
    assert control.asked == 1


def test_a_server_that_cannot_be_asked_yet_is_asked_again():
    control = Control(told=Unavailable("UNAVAILABLE", "down"))
    read(control, b"first", b"second")
    assert control.asked == 2


def test_a_server_that_does_not_see_the_region_maps_it_and_is_not_told_again():
    control = Control(named=NOT_FOUND)
    assert [way for way, _ in read(control, b"first", b"second")] == ["named", "registered", "registered"]


def test_a_film_is_called_broken_only_by_a_server_that_has_seen_it():
    control = Control(named=ONE_BYTE)
    assert read(control, b"good") == [("named", b"good"), ("registered", b"good")]


def test_another_rejection_counts_at_once():
    control = Control(named=WRONG_PART)
    with pytest.raises(Rejected, match="HIP"):
        read(control, b"hip")
    assert control.films == [("named", b"hip")]
