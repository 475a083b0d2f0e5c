"""Films and series through shared memory: one copy into a region, a few hundred bytes on the wire.

A pipeline that says so (`film_region` among its configuration's parameters) is told the region's name and reads the
film where it lies. Any other gets it by Triton's system shared memory, which copies it twice more.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_client.errors import RegionLost, Rejected, Status, Unavailable, WetreadError
from wetread_client.regions import Region, RegionPool, remove_orphans
from wetread_client.transport import BufferPayload, InferAnswer, InferRequest, RegionSlice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_client.transport import ControlTransport

_UNREGISTER_S = 2.0
_FILM_REGION = "film_region"  # of a pipeline's configuration and of a request that names a region
_NO_FILM = BufferPayload(b"\0")
_PASSING = {Status.UNAVAILABLE.value, Status.DEADLINE_EXCEEDED.value, Status.CANCELLED.value}


class _NotShared(Exception):
    """The server refuses regions, or there is no memory for one."""


class SharedMemoryTransport:
    """Films through shared memory; requests, answers and the registration of regions over `control`.

    `regions`: how many the pool holds at most, which bounds the requests under way.
    `pool`: False makes and removes a region for each request; it is there to be compared with.
    `by_name`: False never names a region to a pipeline but has Triton copy from it; to be compared with, too.
    `fall_back`: where the server will not share memory (another machine behind a loopback address, a server that
    has it switched off) or /dev/shm is full, send the film over `control` instead of failing.
    """

    def __init__(
        self,
        control: ControlTransport,
        *,
        regions: int = 16,
        pool: bool = True,
        by_name: bool = True,
        fall_back: bool = False,
    ) -> None:
        self._control = control
        self._keep = pool
        self._by_name = by_name
        self._reads_regions: dict[str, bool] = {}  # by model, as far as it has said
        self._fall_back = fall_back
        self._refused = False
        self._pool = RegionPool(regions)
        self._orphans = remove_orphans()
        self._close = weakref.finalize(self, _close, self._pool, control)  # runs at the interpreter's exit too

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        """Copy one film or series into a region, have it read and wait for the answer."""
        deadline = time.monotonic() + timeout_s
        if not self._refused and not isinstance(request.film, RegionSlice):
            try:
                with self._region(request.film.size, deadline) as region:
                    request.film.copy_into(region.memory[: request.film.size])
                    return self._infer_in(region, request, deadline)
            except _NotShared as refusal:
                if not self._fall_back:
                    raise refusal.__cause__ or refusal from None
        return self._control.infer(request, deadline - time.monotonic())

    def is_live(self, timeout_s: float) -> bool:
        """Say whether a server answers at all; False when nothing listens there."""
        return self._control.is_live(timeout_s)

    def is_ready(self, model: str, timeout_s: float) -> bool:
        """Say whether the server serves `model` now."""
        return self._control.is_ready(model, timeout_s)

    def versions(self, model: str, timeout_s: float) -> tuple[int, ...]:
        """Give the versions of `model` that the server serves; of a pipeline these are releases."""
        return self._control.versions(model, timeout_s)

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        """Give the names of the outputs that `model` has, of this version or of the one that answers now."""
        return self._control.outputs(model, timeout_s, version)

    def inputs(self, model: str, timeout_s: float) -> frozenset[str]:
        """Give the names of the inputs that `model` has; with LENGTHS it takes a series, else a film."""
        return self._control.inputs(model, timeout_s)

    def close(self) -> None:
        """Unregister and remove the idle regions, close the connections; a region in use goes when its request ends."""
        self._close()

    @contextmanager
    def _region(self, size: int, deadline: float) -> Iterator[Region]:
        try:
            region, replaced = self._pool.take(size, deadline - time.monotonic())
        except OSError as error:  # /dev/shm is full, or there is none
            raise _NotShared from Unavailable(Status.RESOURCE_EXHAUSTED.value, f"no shared memory: {error.strerror}")
        for other in replaced:
            _drop(other, self._control)
        still_read = True
        try:
            yield region
            still_read = False
        except BaseException as error:
            # Only a request that ran out of time, or was interrupted, may still be at work in the server.
            if isinstance(error, _NotShared | OSError):
                still_read = False
            elif isinstance(error, WetreadError):
                still_read = error.code == Status.DEADLINE_EXCEEDED.value
            raise
        finally:
            if not self._keep:
                self._pool.forget()
                _drop(region, self._control)
            elif not self._pool.give_back(region, still_read=still_read):
                _drop(region, self._control)

    def _infer_in(self, region: Region, request: InferRequest, deadline: float) -> InferAnswer:
        if self._names_regions_to(request.model, deadline):
            name = (_FILM_REGION, f"{region.name}:{request.film.size}")
            named = replace(request, film=_NO_FILM, parameters=(*request.parameters, name))
            try:
                return self._control.infer(named, deadline - time.monotonic())
            except RegionLost:  # the server does not see this machine's shared memory; it may map it all the same
                self._reads_regions[request.model] = False
            except Rejected as rejection:
                if rejection.code != "InvalidDicom" or request.lengths:
                    raise  # every pipeline of series knows the parameter
                # A server that has been replaced by one that does not know the parameter saw no film at all.
        return self._infer_registered(
            region, replace(request, film=RegionSlice(region.name, request.film.size)), deadline
        )

    def _names_regions_to(self, model: str, deadline: float) -> bool:
        if not self._by_name:
            return False
        if model not in self._reads_regions:
            try:
                told = self._control.parameter(model, _FILM_REGION, deadline - time.monotonic())
            except WetreadError:
                return False  # not told yet: the film goes the other way, and that says what is wrong
            self._reads_regions[model] = told == "true"
        return self._reads_regions[model]

    def _infer_registered(self, region: Region, request: InferRequest, deadline: float) -> InferAnswer:
        self._register(region, deadline)
        try:
            return self._control.infer(request, deadline - time.monotonic())
        except RegionLost:  # the server was restarted since; the film still lies in the region
            region.registered = False
        self._register(region, deadline)
        return self._control.infer(request, deadline - time.monotonic())

    def _register(self, region: Region, deadline: float) -> None:
        if region.registered:
            return
        while self._orphans:
            with contextlib.suppress(WetreadError, IndexError):  # IndexError: another thread took the last one
                self._control.unregister_region(self._orphans.pop(), _UNREGISTER_S)
        try:
            self._control.register_region(region.name, region.key, region.size, deadline - time.monotonic())
        except WetreadError as error:
            # A server that is down or busy may share memory when it is back; one that says no is not asked again.
            self._refused = self._fall_back and error.code not in _PASSING
            raise _NotShared from error
        region.registered = True


def _drop(region: Region, control: ControlTransport, *, tell: bool = True) -> bool:
    """Make the server forget the region, then remove it; False when there was no answer from the server."""
    answered = True
    if region.registered and tell:
        try:
            control.unregister_region(region.name, _UNREGISTER_S)
        except WetreadError as error:  # a server that is gone has forgotten the region already
            answered = error.code not in _PASSING
    region.close()
    return answered


def _close(pool: RegionPool, control: ControlTransport) -> None:
    answers = True  # a server that hangs is waited for once, not once a region
    for region in pool.close():
        answers = _drop(region, control, tell=answers) and answers
    control.close()
