"""When a batch may send: hours of the day, a rate, and a gateway that goes first."""

from __future__ import annotations

import datetime as dt
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from wetread_client.batch.gateway_queue import GatewayQueue
from wetread_client.batch.pace import LOOK_S, Pace, Stop, Window, parse_duration
from wetread_client.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0


class FakeTime:
    """A clock that only waiting moves on."""

    def __init__(self, start: dt.datetime = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)) -> None:
        self.passed = 0.0
        self.start = start
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.passed

    def now(self) -> dt.datetime:
        return self.start + dt.timedelta(seconds=self.passed)

    def pace(self, **options: object) -> Pace:
        pace = Pace(now=self.now, monotonic=self.monotonic, **options)
        pace._stopped = self._event(pace)
        return pace

    def _event(self, pace: Pace) -> threading.Event:
        clock = self

        class Waiting(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                clock.waits.append(timeout)
                clock.passed += timeout
                return self.is_set()

        return Waiting()


class FakeQueue:
    def __init__(self, *answers: int | Unavailable) -> None:
        self.answers = list(answers)
        self.asked = 0

    def waiting(self) -> int:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Unavailable):
            raise answer
        return answer


def at(hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(2026, 1, 1, hour, minute, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("window", "now", "wait_h"),
    [
        ("20:00-06:00", at(12), 8),
        ("20:00-06:00", at(20), 0),
        ("20:00-06:00", at(23, 59), 0),
        ("20:00-06:00", at(0), 0),
        ("20:00-06:00", at(5, 59), 0),
        ("20:00-06:00", at(6), 14),
        ("08:00-12:00", at(7), 1),
        ("08:00-12:00", at(8), 0),
        ("08:00-12:00", at(12), 20),
    ],
)
def test_a_window_may_reach_over_midnight(window, now, wait_h):
    assert Window.parse(window).wait_s(now) == wait_h * HOUR


@pytest.mark.parametrize("text", ["", "20:00", "20:00-20:00", "25:00-06:00", "20-06", "20:00-06:61"])
def test_a_text_that_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match=r"window|hour|minute"):
        Window.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("8h", 28800), ("1.5H", 5400), ("2d", 172800)]
)
def test_durations_have_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "8 hours", "0"])
def test_a_text_that_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no time"):
        parse_duration(text)


def test_nothing_is_sent_before_the_window_opens():
    clock = FakeTime(at(19))
    pace = clock.pace(window=Window.parse("20:00-06:00"))
    pace.await_leave()
    assert clock.passed == HOUR


def test_the_rate_is_kept_and_a_pause_is_not_made_up_for():
    clock = FakeTime()
    pace = clock.pace(max_rate=2)
    for _ in range(5):
        pace.await_leave()
    assert clock.passed == pytest.approx(2.0)
    clock.passed += 100
    pace.await_leave()
    pace.await_leave()
    begun = clock.passed
    pace.await_leave()
    assert clock.passed - begun == pytest.approx(0.5)


def test_nothing_is_sent_while_work_waits_at_the_gateway():
    clock, queue = FakeTime(), FakeQueue(3, 1, 0)
    clock.pace(queue=queue).await_leave()
    assert (queue.asked, clock.waits) == (3, [LOOK_S, LOOK_S])


def test_a_few_may_wait_where_that_was_said():
    clock, queue = FakeTime(), FakeQueue(3)
    clock.pace(queue=queue, yield_above=3).await_leave()
    assert clock.waits == []


def test_a_gateway_that_does_not_tell_is_given_way_to():
    clock = FakeTime()
    queue = FakeQueue(Unavailable("UNAVAILABLE", "down"), 0)
    clock.pace(queue=queue).await_leave()
    assert clock.waits == [LOOK_S]


def test_one_look_serves_all_for_a_while():
    clock, queue = FakeTime(), FakeQueue(0)
    pace = clock.pace(queue=queue)
    for _ in range(10):
        pace.await_leave()
    assert queue.asked == 1
    clock.passed += LOOK_S
    pace.await_leave()
    assert queue.asked == 2


def test_the_limit_ends_the_run_and_a_second_try_does_not_count():
    pace = FakeTime().pace(limit=2)
    pace.await_leave()
    pace.await_leave(again=True)
    pace.await_leave()
    with pytest.raises(Stop, match="the limit"):
        pace.await_leave()


def test_the_deadline_ends_the_run_in_the_midst_of_a_wait():
    clock = FakeTime(at(12))
    pace = clock.pace(window=Window.parse("20:00-06:00"), deadline_s=90)
    with pytest.raises(Stop, match="the deadline"):
        pace.await_leave()
    assert clock.passed == 90


def test_a_stop_wakes_who_waits_for_a_window():
    pace = Pace(window=Window.parse("20:00-06:00"), now=lambda: at(12))
    ended: list[str] = []

    def wait() -> None:
        try:
            pace.await_leave()
        except Stop as stop:
            ended.append(str(stop))

    thread = threading.Thread(target=wait)
    thread.start()
    pace.stop("SIGTERM")
    thread.join(10)
    assert ended == ["SIGTERM"]


METRICS = """# HELP wetread_gateway_queue_depth Instances or works in a state.
# TYPE wetread_gateway_queue_depth gauge
wetread_gateway_queue_depth{state="received"} 2.0
wetread_gateway_queue_depth{state="waiting"} 3.0
wetread_gateway_queue_depth{state="leased"} 1.0
wetread_gateway_queue_depth{state="reported"} 40.0
"""


@pytest.fixture
def gateway() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.met.append((self.path, self.headers.get("Authorization")))
            status, body = self.server.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.met, server.answer = [], (200, METRICS)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_to_be_read_counts_and_what_is_to_be_sent_does_not(gateway, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    queue = GatewayQueue(f"http://127.0.0.1:{gateway.server_port}", token)
    assert queue.waiting() == 6
    assert gateway.met == [("/metrics", "Bearer secret")]


@pytest.mark.parametrize("answer", [(503, ""), (401, ""), (200, "other_metric 1\n"), (200, "")])
def test_an_answer_without_the_queue_is_no_empty_queue(gateway, answer):
    gateway.answer = answer
    with pytest.raises(Unavailable):
        GatewayQueue(f"http://127.0.0.1:{gateway.server_port}/").waiting()


def test_a_gateway_that_is_away_is_unavailable_and_an_address_that_is_none_is_refused(gateway):
    with pytest.raises(Unavailable):
        GatewayQueue("http://127.0.0.1:1").waiting()
    with pytest.raises(ValueError, match="no http"):
        GatewayQueue("gateway:8080")
