"""What a reader makes of answers and errors, with a server that the test scripts."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager

import numpy as np
import pytest
from prometheus_client import REGISTRY
from rollout_docs import roll
from waiting import WAIT_S, wait_for
from wetread_client import Client, FakeTransport, Rejected, Retry, ServerError, Unavailable
from wetread_client.errors import CAUSES, ERRORS, HTTP_STATUS, Status, translate
from wetread_client.fake import fake_answer
from wetread_gateway.errors import SourceMissing
from wetread_gateway.priority import Priority
from wetread_gateway.reading.canary import canary_film
from wetread_gateway.reading.failures import cause_of, failure_of
from wetread_gateway.reading.pauses import Pauses
from wetread_gateway.reading.pipeline import Pipeline, Pipelines
from wetread_gateway.reading.read import read
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredReading
from wetread_gateway.reading.worklist import FailureKind, Lease, LeasedSource, Served
from wetread_gateway.state.tables import WorkState
from works import Works, configuration

STABLE = Served("chest_xray", "stable")
DOWN = Unavailable("UNAVAILABLE", "down")
DEAD_STUB = ServerError("INTERNAL", "Stub process is not healthy")
REFUSED = Rejected("UnsupportedImage", "a hip")
LEASE_S = 6.0
ONCE = Retry(times=0)
QUICK = Retry(first_wait_s=0.01, longest_wait_s=0.01)


def lease_of(*uids: str) -> Lease:
    sources = tuple(LeasedSource(uid) for uid in uids)
    return Lease(1, 1, 0.0, "a", "2.25.1", STABLE, Priority.ROUTINE, False, False, 0, sources)


def pipeline(*script) -> Pipeline:
    return Pipeline(Client(transport=FakeTransport(script), retry=ONCE))


def read_series(*script, uids=("1", "2", "3")):
    # The client asks once more for what a release answers first, to have its card.
    return read(lease_of(*uids), lambda n: b"film %d" % n, pipeline(*script), 5.0)


def test_a_single_film_keeps_what_the_client_gave():
    kept = read_series(fake_answer([0.25], release=7, novelty=0.5, warnings=["odd"]), uids=("1",))
    assert (kept.release, kept.arm, kept.novelty, kept.warnings) == (7, "stable", 0.5, ("odd",))
    assert [(f.label, f.probability, f.positive, f.source_uid) for f in kept.findings] == [
        ("finding", 0.25, False, "1")
    ]
    assert kept.pixels().shape == (1, 224, 224)


def test_a_series_film_by_film_keeps_all_findings_and_the_heatmap_of_the_most_probable_positive():
    answers = [fake_answer([p], novelty=n) for p, n in ((0.6, 0.1), (0.9, 0.3), (0.1, 0.2))]
    answers[1].outputs["HEATMAP"][:] = 9
    kept = read_series(*answers)
    assert [(round(f.probability, 3), f.source_uid) for f in kept.findings] == [(0.6, "1"), (0.9, "2"), (0.1, "3")]
    assert kept.novelty == pytest.approx(0.3)
    assert kept.heatmap_source_uid == "2"
    assert np.unique(kept.pixels()).tolist() == [9]


def test_what_a_release_does_not_make_is_kept_as_not_there():
    lean = fake_answer([0.9], novelty=None, has_heatmap=False)
    for uids in (("1",), ("1", "2")):
        kept = read_series(lean, uids=uids)
        assert (kept.novelty, kept.heatmap, kept.heatmap_shape, kept.heatmap_source_uid) == (None, None, None, "")
        assert StoredReading.parse(kept.document(), None) == kept


def test_a_series_without_a_positive_film_has_no_heatmap():
    kept = read_series(fake_answer([0.1]))
    assert (kept.heatmap, kept.heatmap_shape, kept.heatmap_source_uid) == (None, None, "")


def test_a_series_says_which_films_were_refused():
    kept = read_series(fake_answer([0.1]), REFUSED, REFUSED)
    assert kept.warnings == ("2 of 3 images not read: UnsupportedImage: a hip",)
    assert [f.source_uid for f in kept.findings] == ["1"]
    assert kept.refusal is None


def test_a_series_of_which_every_film_is_refused_is_a_refusal_of_the_release_that_answers():
    reader_of_films = pipeline(fake_answer(release=4), *[REFUSED] * 3)
    reader_of_films.probe(1)
    kept = read(lease_of("1", "2", "3"), lambda _: b"x", reader_of_films, 5.0)
    assert kept.refusal == Refusal("UnsupportedImage", "a hip")
    assert (kept.release, kept.algorithm, kept.findings) == (4, "fake", ())


def test_a_refusal_before_any_reading_asks_a_good_film_for_the_release():
    kept = read_series(REFUSED, fake_answer(release=5), uids=("1",))
    assert (kept.refusal.code, kept.release, kept.algorithm) == ("UnsupportedImage", 5, "fake")


def test_a_refusal_of_a_server_that_then_is_down_is_kept_all_the_same():
    kept = read_series(REFUSED, DOWN, uids=("1",))
    assert (kept.refusal.code, kept.release) == ("UnsupportedImage", 0)


def test_a_series_is_never_read_by_two_releases():
    with pytest.raises(Unavailable, match="release changed"):
        read_series(fake_answer(release=1), fake_answer(release=2), uids=("1", "2"))


@pytest.mark.parametrize(("probability", "novelty"), [(np.nan, 0.5), (0.5, np.inf), (1.5, 0.5), (-0.1, 0.5)])
def test_an_answer_that_is_no_number_is_the_servers_fault(probability, novelty):
    with pytest.raises(ServerError, match="release 2 answers"):
        read_series(fake_answer([probability], novelty=novelty, release=2), uids=("1",))


def test_a_work_without_images_is_hopeless():
    with pytest.raises(SourceMissing):
        read_series(fake_answer(), uids=())


def test_the_canary_is_read_by_the_shipped_pipeline(preprocessor):
    assert preprocessor.read(canary_film()).image.size


@pytest.mark.parametrize("status", Status)
def test_every_status_of_a_server_has_a_cause_and_none_of_them_gives_a_film_up(status):
    cause = cause_of(translate(status, "anything"))
    assert cause.kind is (FailureKind.LATER if issubclass(ERRORS[status], Unavailable) else FailureKind.SUSPECT)
    assert cause.mends is issubclass(ERRORS[status], ServerError)
    assert (cause.alert is not None) is (status is Status.NOT_FOUND)


def test_only_what_our_backends_say_of_a_film_is_a_refusal():
    rejections = [cause for cause in CAUSES if issubclass(cause.error, Rejected)]
    assert {cause.code for cause in rejections} == {"InvalidDicom", "UnsupportedImage"}
    assert set(HTTP_STATUS.values()) <= set(ERRORS)
    with pytest.raises(LookupError):
        cause_of(REFUSED)


def test_a_failure_names_no_path():
    failure = failure_of(PermissionError(13, "Permission denied", "/spool/studies/1/DOE.dcm"), 1.0)
    assert (failure.kind, failure.reason) == (FailureKind.SUSPECT, "Permission denied")


def test_films_that_fail_together_are_one_failure_and_a_pause_ends_with_a_reading():
    pauses = Pauses(Retry(first_wait_s=30.0, longest_wait_s=100.0, random=lambda: 0.5))
    assert pauses.failed(STABLE, mends=False) == (pytest.approx(30.0, abs=0.1), True)
    assert pauses.failed(STABLE, mends=False) == (pytest.approx(30.0, abs=0.1), False)
    assert pauses.paused() == {STABLE}
    pauses.worked(STABLE)
    assert pauses.paused() == frozenset()


def test_what_broke_is_read_with_again_only_after_its_probe():
    pauses = Pauses(Retry(first_wait_s=0.0, longest_wait_s=0.0))
    pauses.failed(STABLE, mends=True)
    pauses.worked(STABLE)  # a film that was under way
    assert pauses.paused() == {STABLE}
    assert pauses.to_probe() == [STABLE]
    assert pauses.to_probe() == []
    pauses.still_broken(STABLE)
    assert pauses.to_probe() == [STABLE]
    pauses.mended(STABLE)
    assert pauses.paused() == frozenset()


@pytest.fixture
def works(tmp_path):
    made = Works.open(configuration(tmp_path, concurrency=2, lease_s=30.0, rollouts=str(tmp_path / "rollout")))
    yield made
    made.close()


@contextmanager
def reading(works, answer, worklist=None):
    """A reader over a scripted server, in a thread."""
    script = FakeTransport([answer] if not isinstance(answer, list) else answer)
    pipelines = Pipelines(lambda: "", lambda _url, model: Client(pipeline=model, transport=script, retry=ONCE))
    reader = Reader(
        worklist or StoreWorklist(works.context),
        pipelines,
        "reader-0",
        lambda: works.context.settings.triton,
        pauses=Pauses(QUICK),
    )
    thread = threading.Thread(target=reader.run, args=(works.context.stop,))
    thread.start()
    try:
        yield script
    finally:
        works.context.stop.set()
        thread.join()
        pipelines.close()


def alerts(kind):
    return REGISTRY.get_sample_value("wetread_gateway_alerts_total", {"kind": kind}) or 0.0


class Gate:
    """Answers when it is told to; knows how many films wait."""

    def __init__(self):
        self.open = threading.Event()
        self.films = []

    def __call__(self, request):
        self.films.append(request.film)
        if request.film != b"STAT":
            assert self.open.wait(WAIT_S)
        return fake_answer()


@pytest.mark.slow
def test_stat_is_read_while_every_other_slot_is_taken(works):
    gate = Gate()
    slow = [works.add(b"slow") for _ in range(6)]
    with reading(works, gate):
        assert wait_for(lambda: gate.films == [b"slow"] * 2)  # as many as the settings say
        stat = works.add(b"STAT", priority=Priority.STAT)
        assert wait_for(lambda: works.row(stat).state == WorkState.READ)
        assert not gate.open.is_set()
        gate.open.set()
        assert wait_for(lambda: works.states() == {WorkState.READ: 7})
    assert sorted(works.readings()) == [*slow, stat]


@pytest.mark.slow
def test_a_lease_is_kept_as_long_as_the_reading_takes(tmp_path):
    gate = Gate()
    with closing(Works.open(configuration(tmp_path, lease_s=LEASE_S))) as works, reading(works, gate):
        work = works.add(b"slow")
        assert wait_for(lambda: gate.films)
        first = works.row(work).lease_until
        assert wait_for(lambda: works.row(work).lease_until > first + LEASE_S)
        assert works.row(work).lease_token == 1
        gate.open.set()
        assert wait_for(lambda: works.states() == {WorkState.READ: 1})


def test_a_reader_that_is_told_to_stop_ends_what_it_began_and_gives_the_rest_back(works):
    gate = Gate()
    for _ in range(6):
        works.add(b"slow")
    with reading(works, gate):
        assert wait_for(lambda: len(gate.films) == 2 and works.states().get(WorkState.LEASED, 0) > 2)
        works.context.stop.set()
        assert wait_for(lambda: works.states() == {WorkState.LEASED: 2, WorkState.WAITING: 4})
        gate.open.set()
    assert works.states() == {WorkState.READ: 2, WorkState.WAITING: 4}


@pytest.mark.slow
def test_a_server_that_is_down_and_comes_back_costs_no_attempt(works):
    ids = [works.add() for _ in range(5)]
    with reading(works, [DOWN] * 12 + [fake_answer()]):
        assert wait_for(lambda: works.states() == {WorkState.READ: 5})
    assert {works.row(work).attempts for work in ids} == {0}


def test_a_pipeline_that_is_not_served_waits_with_an_alert(works):
    work = works.add()
    before = alerts("pipeline_not_served")
    with reading(works, Unavailable("NOT_FOUND", "unknown model")):
        assert wait_for(lambda: alerts("pipeline_not_served") > before)
        assert wait_for(lambda: works.row(work).reason == "NOT_FOUND: unknown model")


@pytest.mark.slow
def test_a_broken_server_is_probed_and_gives_no_film_up_however_long_it_lasts(works):
    ids = [works.add() for _ in range(3)]
    broken = threading.Event()
    broken.set()
    probes = []

    def answer(request):
        probes.append(request.film == canary_film())
        if broken.is_set():
            raise DEAD_STUB
        return fake_answer()

    with reading(works, answer):
        assert wait_for(lambda: sum(probes) > 10)
        assert len(probes) - sum(probes) <= 3  # no film was spent on it after the first
        broken.clear()
        assert wait_for(lambda: works.states() == {WorkState.READ: 3})
    assert {works.row(work).attempts for work in ids} == {0}


@pytest.mark.slow
def test_a_poisonous_film_is_given_up_and_its_neighbours_are_not(works):
    good = [works.add(b"good") for _ in range(3)]
    poison = works.add(b"POISON")
    good += [works.add(b"good") for _ in range(3)]

    def answer(request):
        if request.film == b"POISON":
            raise DEAD_STUB
        return fake_answer()

    with reading(works, answer) as script:
        assert wait_for(lambda: works.row(poison).state == WorkState.DEAD)
        assert wait_for(lambda: works.states()[WorkState.READ] == 6)
    assert sum(request.film == b"POISON" for request in script.requests if "CARD" not in request.outputs) <= 4
    assert works.row(poison).attempts == 3
    assert sorted(works.readings()) == good


def test_a_film_whose_file_is_gone_goes_to_the_dead_letter(works):
    work = works.add()
    (works.context.spool.root / works.files(work)[0]).unlink()
    with reading(works, fake_answer()):
        assert wait_for(lambda: works.row(work).state == WorkState.DEAD)
    assert works.row(work).reason.startswith("SourceMissing: ")


def test_what_no_work_explains_ends_the_process(works):
    works.add()

    class Broken(StoreWorklist):
        def complete(self, lease, reading):
            raise ArithmeticError("our own mistake")

    pipelines = Pipelines(lambda: "", lambda _url, _model: Client(transport=FakeTransport([fake_answer()])))
    reader = Reader(Broken(works.context), pipelines, "reader-0", lambda: works.context.settings.triton)
    with pytest.raises(ArithmeticError):
        reader.run(works.context.stop)


def test_each_arm_is_read_by_its_own_ensemble(works, tmp_path):
    roll(tmp_path / "rollout", candidate=4, candidate_percent=10.0)
    works.add(arm="candidate", options={"candidate": 4})
    works.add()
    with reading(works, fake_answer()) as script:
        assert wait_for(lambda: works.states() == {WorkState.READ: 2})
    assert {request.model for request in script.requests} == {"chest_xray", "chest_xray_candidate"}
