"""The classes of users; there is one of each, and it sends by its own timetable, however slow the answers are."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import gevent  # type: ignore[import-untyped]  # it has no stubs
import h11
from gevent.pool import Pool  # type: ignore[import-untyped]  # it has no stubs
from locust import User, task
from locust.exception import StopUser
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation
from wetread_client import Client, Retry, WetreadError

from wetread_loadtest import checks, dimse_door
from wetread_loadtest.http_door import ask
from wetread_loadtest.run import Run
from wetread_loadtest.schedule import moments

if TYPE_CHECKING:
    from wetread_client.connect import Way

    from wetread_loadtest.http_door import Answer

_FAILURES = (OSError, h11.ProtocolError, checks.Wrong, dimse_door.NotStored, WetreadError, KeyError, ValueError)
_BOUNDARY = "wetread-load"


class OpenLoopUser(User):
    """Sends at the moments of its timetable. A latency counts from the moment, not from when it was sent."""

    abstract = True
    fixed_count = 1
    kind = ""
    title = ""
    counts_stat = True

    @task
    def play(self) -> None:
        """Play the whole timetable, then wait for the last answers."""
        run = Run.current
        run.users_left += 1
        pool = Pool(run.options.at_once)
        rng = random.Random(f"{run.seed}/{self.kind}")  # noqa: S311 -- a timetable, no secret
        try:
            for second in moments(run.options.plan, run.options.share_of(self.kind), rng):
                stat = self.counts_stat and rng.random() < run.options.stat
                run.tally.offered += 1
                due = run.zero + second
                run.tally.unsent += 1  # until it has left
                gevent.sleep(max(0.0, due - time.monotonic()))
                pool.spawn(self._one, run, due, stat)
            pool.join()
        finally:
            run.users_left -= 1
        raise StopUser

    def send(self, run: Run, *, stat: bool) -> None:
        """Send one, and check what comes back."""
        raise NotImplementedError

    def _one(self, run: Run, due: float, stat: bool) -> None:
        run.tally.unsent -= 1
        run.tally.left(time.monotonic() - due)
        priority = "stat" if stat else "routine"
        line = run.tally.line(self.kind, priority)
        failure: Exception | None = None
        try:
            self.send(run, stat=stat)
        except (checks.Refused, dimse_door.Rejected) as error:
            line.refused[str(error)] += 1
            failure = error
        except _FAILURES as error:
            line.failed[f"{type(error).__name__}: {error}"[:200]] += 1
            failure = error
        took = time.monotonic() - due
        if failure is None:
            line.latencies_s.append(took)
            line.in_window += due + took <= run.zero + run.options.seconds
        self.environment.events.request.fire(
            request_type=self.title,
            name=f"{self.kind} {priority}",
            response_time=took * 1e3,
            response_length=0,
            exception=failure,
            context={},
        )


class PacsUser(OpenLoopUser):
    """A modality: a film over an association of its own."""

    kind, title = "pacs", "C-STORE"

    def send(self, run: Run, *, stat: bool) -> None:
        """Send a film."""
        identity, film = run.films.film(run.number())
        instance = dimse_door.Instance.of(identity.sop_uid, film)
        _store(run, str(DigitalXRayImageStorageForPresentation), [instance], stat=stat)
        run.acknowledge(identity.study_uid, 1)


class SeriesUser(OpenLoopUser):
    """A scanner: a small series over one association. No rule need read it; every image must be accounted for."""

    kind, title, counts_stat = "series", "C-STORE", False

    def send(self, run: Run, *, stat: bool) -> None:
        """Send a series."""
        study_uid, slices = run.films.series(run.number(), run.options.slices)
        _store(run, str(CTImageStorage), [dimse_door.Instance.of(one.sop_uid, file) for one, file in slices], stat=stat)
        run.acknowledge(study_uid, len(slices), is_read=False)


class DicomwebUser(OpenLoopUser):
    """A PACS that speaks DICOMweb: STOW-RS with one film."""

    kind, title = "dicomweb", "STOW-RS"

    def send(self, run: Run, *, stat: bool) -> None:
        """Store a film."""
        identity, film = run.films.film(run.number())
        content_type = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + film + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": content_type, **run.headers(stat=stat), "Accept": "application/dicom+json"}
        answer = ask(run.options.url, "POST", "/studies", headers, body, timeout_s=run.options.wait_s)
        _check_status(run, answer, self.kind, stat=stat)
        checks.check_stow_answer(answer.json(), identity.sop_uid)
        run.acknowledge(identity.study_uid, 1)


class ReadUser(OpenLoopUser):
    """A workstation that waits for the reading: `POST /v1/read`."""

    kind, title = "read", "POST"

    def send(self, run: Run, *, stat: bool) -> None:
        """Have a film read."""
        identity, film = run.films.film(run.number())
        wait_s = max(1.0, min(300.0, run.options.wait_s - 5.0))
        headers = {"Content-Type": "application/dicom", **run.headers(stat=stat)}
        path = f"/v1/read?wait_s={wait_s:g}"
        answer = ask(run.options.url, "POST", path, headers, film, timeout_s=run.options.wait_s)
        _check_status(run, answer, self.kind, stat=stat)
        run.acknowledge(identity.study_uid, 1)
        checks.check_read_answer(answer.json(), identity.study_uid, identity.sop_uid)


class _TritonUser(OpenLoopUser):
    """A program that asks Triton itself; Triton knows no STAT."""

    abstract = True
    counts_stat = False
    way: Way = "http"

    def on_start(self) -> None:
        """Connect."""
        options = Run.current.options
        url = options.triton_grpc if self.way == "grpc" else options.triton
        # A failure must count, not pass unseen.
        self._client = Client(url, options.pipeline, transport=self.way, timeout_s=options.wait_s, retry=Retry(times=0))

    def on_stop(self) -> None:
        """Disconnect."""
        self._client.close()

    def send(self, run: Run, *, stat: bool) -> None:
        """Have a film read."""
        _, film = run.films.film(run.number())
        reading = self._client.read(film, any_body_part=True)
        findings: list[dict[str, Any]] = [{"probability": finding.probability} for finding in reading.findings]
        checks.check_reading({"release": reading.release, "findings": findings})


class TritonHttpUser(_TritonUser):
    """Over HTTP."""

    kind, title, way = "triton_http", "KServe", "http"


class TritonGrpcUser(_TritonUser):
    """Over gRPC."""

    kind, title, way = "triton_grpc", "KServe", "grpc"


def _store(run: Run, sop_class: str, instances: list[dimse_door.Instance], *, stat: bool) -> None:
    options = run.options
    host, _, port = options.dicom.rpartition(":")
    titles = ("LOADTEST", options.called_stat if stat else options.called)
    statuses = dimse_door.store((host, int(port)), titles, sop_class, instances, timeout_s=options.wait_s)
    if wrong := [status for status in statuses if status != dimse_door.SUCCESS]:
        if all(0xA700 <= status <= 0xA7FF for status in wrong):  # out of resources (PS3.4, table B.2-1)
            raise checks.Refused("A700")
        raise checks.Wrong(f"a status of {wrong[0]:04X}")


def _check_status(run: Run, answer: Answer, kind: str, *, stat: bool) -> None:
    if answer.status in checks.REFUSALS:
        if not answer.body_sent:
            run.tally.line(kind, "stat" if stat else "routine").refused_before_body += 1
        raise checks.Refused(checks.REFUSALS[answer.status])
    if answer.status != 200:
        raise checks.Wrong(f"HTTP {answer.status}: {answer.body[:100]!r}")
