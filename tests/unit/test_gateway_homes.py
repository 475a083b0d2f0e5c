"""Several intakes over one store: each has its own spool, and any of them may take any film."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from intake_pair import Pair
from sqlalchemy import select, text
from tiers import tried
from triage_site import PIXELS, Site, instance
from wetread_gateway.config.live import LiveSettings
from wetread_gateway.delivery import commitment, queue
from wetread_gateway.doctor.work import checks
from wetread_gateway.errors import ConfigError, SiblingAway, SourceMissing
from wetread_gateway.intakes import intakes
from wetread_gateway.operate import timeline
from wetread_gateway.pressure import oldest_waiting_s
from wetread_gateway.reading.failures import failure_of
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.worklist import FailureKind
from wetread_gateway.report_queue import take
from wetread_gateway.siblings import Held, Siblings
from wetread_gateway.state.homes import AWAY_S, settle
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import DELIVERIES, HOMES, INSTANCES, METADATA, SERIES, TRANSACTIONS, WORKS
from wetread_gateway.triage.moving import follow
from wetread_gateway.triage.others import PATIENCE_S
from wetread_gateway.triage.retention import Janitor

QUIET_S = 15.0


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path, f"sqlite:///{tmp_path / 'common.sqlite'}")
    yield made
    made.close()


@pytest.fixture
def postgres_pair(postgres, tmp_path):
    store = StateStore(tmp_path, postgres)
    with store.write() as connection:
        names = ", ".join(table.name for table in METADATA.sorted_tables)
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    store.close()
    made = Pair(tmp_path, postgres)
    yield made
    made.close()


def slice_of(number, *, expected=None, series="1.2.3.5"):
    attributes = {"Modality": "CT", "SeriesInstanceUID": series, "InstanceNumber": number}
    return instance(f"{series}.{number}", NumberOfSeriesRelatedInstances=expected, **attributes)


def set_all(intake, table, **values):
    with intake.context.store.write() as connection:
        connection.execute(table.update().values(**values))


class TestWhoseItIs:
    def test_a_row_knows_whose_spool_holds_its_file_and_a_work_that_of_its_first_source(self, pair) -> None:
        pair.b.arrive(slice_of(1, expected=2))
        pair.a.arrive(slice_of(2, expected=2))
        pair.a.arrive(instance("1.2.9"))
        pair.settle()
        pair.tick(3.0)
        assert {row.sop_uid: row.home for row in pair.a.instances()} == {
            "1.2.3.5.1": "b",
            "1.2.3.5.2": "a",
            "1.2.9": "a",
        }
        assert {len(work.sources): work.home for work in pair.a.works()} == {1: "a", 2: "b"}

    def test_each_reports_and_delivers_its_own_works_alone(self, pair) -> None:
        pair.a.arrive(instance("1.2.8", StudyInstanceUID="1.2.80"))
        pair.b.arrive(instance("1.2.9", StudyInstanceUID="1.2.90"))
        pair.settle()
        set_all(pair.a, WORKS, state="read")
        for intake, study in ((pair.a, "1.2.80"), (pair.b, "1.2.90")):
            assert [work.study_uid for work in take(intake.context, 0, 1)] == [study]
        with pair.a.context.store.write() as connection:
            for work in (1, 2):
                row = {"work_id": work, "destination": "pacs", "objects": [], "state": "waiting", "priority": 2}
                connection.execute(DELIVERIES.insert().values(**row, created_at=0.0))
        for intake, study in ((pair.a, "1.2.80"), (pair.b, "1.2.90")):
            store, home = intake.context.store, intake.name
            assert [one.study_uid for one in queue.due(store, "pacs", "waiting", 9, home=home)] == [study]
            assert [one.study_uid for one in queue.overdue(store, "pacs", time.time(), home)] == [study]
        set_all(pair.a, DELIVERIES, state="delivered")
        assert queue.waiting_at(pair.a.context.store, "a") == set()

    def test_a_commitment_that_one_asked_for_is_known_to_be_its_own(self, pair) -> None:
        with pair.a.context.store.write() as connection:
            commitment.begin(connection, "1.2.77", "pacs", "a")
        assert [(row.transaction_uid, row.home) for row in pair.b.rows(TRANSACTIONS)] == [("1.2.77", "a")]

    @pytest.mark.slow
    def test_files_of_a_work_that_another_has_ended_end_in_done_and_are_purged_by_their_own_intake(self, pair) -> None:
        pair.open("a", "b")
        first = pair.b.arrive(slice_of(1, expected=2))
        second = pair.a.arrive(slice_of(2, expected=2))
        pair.settle()
        pair.tick(3.0)
        assert follow(pair.a.context) == 0
        set_all(pair.a, WORKS, state="finished", changed_at=pair.a.now)
        assert (follow(pair.a.context), follow(pair.a.context)) == (1, 0)
        assert pair.a.files("done") == [second]
        assert pair.b.files("done") == []  # its own delivery moves it
        pair.a.now += 25 * 3600
        janitor = Janitor(pair.a.context, lambda: pair.a.now)
        assert janitor.purge() == 1
        janitor.close()
        assert (pair.a.files("."), pair.b.files(".")) == ([], [first])
        assert {row.home: row.state for row in pair.a.instances()} == {"a": "purged", "b": "sorted"}

    def test_a_folder_stays_its_intake_s(self, pair, tmp_path) -> None:
        folder = tmp_path / "folder"
        store = StateStore(folder)
        settle(store, folder, "a")
        settle(store, folder, "a")
        with pytest.raises(ConfigError, match="is the state folder of the intake 'a', not of 'b'"):
            settle(store, folder, "b")
        store.close()
        config = tmp_path / "gateway.toml"
        config.write_text(f'[gateway]\nstate_dir = "{folder}"\n')
        assert LiveSettings(config).current.gateway.name == "a"  # what an operator's commands go by
        assert LiveSettings(config, "b").current.gateway.name == "b"
        with pytest.raises(ConfigError, match="not an intake's name"):
            LiveSettings(config, "A.b")
        pair.tick()
        with pytest.raises(ConfigError, match="this one has no name"):
            settle(pair.a.context.store, folder, "")

    def test_the_rows_of_a_gateway_that_gets_a_name_stay_its_own(self, tmp_path) -> None:
        site = Site(tmp_path)
        site.arrive(instance())
        site.settle()
        settle(site.context.store, tmp_path, "a")
        assert [row.home for table in (INSTANCES, WORKS) for row in site.rows(table)] == ["a", "a"]
        site.close()


def test_a_store_of_before_gets_the_new_columns_and_goes_on(tmp_path) -> None:
    StateStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.sqlite") as old:
        for table in ("works", "objects", "series", "transactions"):
            old.execute(f"ALTER TABLE {table} DROP COLUMN home")
        old.execute("DROP TABLE homes")
        old.execute("INSERT INTO transactions VALUES ('1.2', 'pacs', 1.0)")
    old.close()
    store = StateStore(tmp_path)
    with store.read() as connection:
        assert connection.execute(select(TRANSACTIONS.c.home)).scalars().all() == [""]
        assert connection.execute(select(WORKS.c.home)).all() == connection.execute(select(HOMES)).all() == []
    store.close()


class TestSeries:
    def test_a_series_that_came_through_two_doors_is_read_once_as_a_whole(self, pair) -> None:
        for number in range(1, 5):
            (pair.a if number % 2 else pair.b).arrive(slice_of(number, expected=4))
        pair.settle()
        pair.tick(3.0)
        (work,) = pair.a.works()
        assert (work.completeness, len(work.sources)) == ("confirmed", 4)

    def test_what_lies_unsorted_at_another_keeps_a_series_from_being_whole(self, pair) -> None:
        pair.tick()
        pair.b.arrive(slice_of(2))
        pair.a.arrive(slice_of(1))
        pair.a.settle()
        for one in (pair.a, pair.b):
            one.now += QUIET_S + 1
        pair.a.settle()
        assert pair.a.works() == []  # b has not said a word since
        pair.b.settle()
        pair.tick(QUIET_S + 1)
        pair.tick()
        (work,) = pair.a.works()
        assert len(work.sources) == 2

    def test_a_sender_on_the_line_with_another_keeps_a_series_from_being_whole(self, pair) -> None:
        pair.a.arrive(slice_of(1))
        pair.settle()
        pair.b.context.spool.opened("receiver-0.9", "MOD")
        pair.tick(QUIET_S + 1)
        pair.tick()
        assert pair.a.works() == []
        pair.b.context.spool.closed("receiver-0.9", "MOD")
        pair.tick()
        pair.tick()
        (work,) = pair.a.works()
        assert work.completeness == "unconfirmed"

    def test_an_intake_that_is_away_is_waited_for_but_not_for_ever(self, pair) -> None:
        pair.tick()
        pair.a.arrive(slice_of(1))
        pair.a.settle()
        pair.a.tick(QUIET_S + AWAY_S)
        assert pair.a.works() == []
        pair.a.tick(PATIENCE_S)
        (work,) = pair.a.works()
        assert work.completeness == "unconfirmed"
        assert any("away: b" in line for line in pair.a.told("complete"))

    def test_an_intake_that_ended_in_order_is_not_waited_for(self, pair) -> None:
        pair.tick()
        pair.b.triage.close()
        pair.a.arrive(slice_of(1))
        pair.a.settle()
        pair.a.tick(QUIET_S + 1)
        assert len(pair.a.works()) == 1

    def test_a_series_whose_last_image_came_to_one_that_is_away_is_judged_by_another(self, pair) -> None:
        pair.a.arrive(slice_of(1, expected=2))
        pair.a.settle()
        pair.b.arrive(slice_of(2, expected=2))
        pair.b.settle()
        pair.a.tick(3.0)
        assert [row.home for row in pair.a.series()] == ["b"]
        assert pair.a.works() == []  # b will see to it
        pair.a.tick(AWAY_S)
        (work,) = pair.a.works()
        assert (work.home, len(work.sources)) == ("a", 2)

    @pytest.mark.slow
    def test_a_series_of_which_nothing_can_be_looked_at_waits_for_its_intake(self, pair) -> None:
        pair.b.arrive(slice_of(1, expected=1))
        pair.b.settle()
        set_all(pair.a, SERIES, home="a")
        pair.a.tick(3.0)
        assert pair.a.works() == []
        pair.open("b")
        pair.a.tick(3.0)  # nor is it asked at once: one that did not answer is left alone for a second
        until = time.monotonic() + 120
        while not pair.a.works() and time.monotonic() < until:
            pair.a.tick()
        (work,) = pair.a.works()
        assert work.home == "b"


class TestTwins:
    @pytest.mark.slow
    def test_the_same_film_at_another_intake_is_a_duplicate(self, pair) -> None:
        pair.open("a", "b")
        pair.a.arrive(instance())
        pair.settle()
        pair.b.arrive(instance())
        pair.settle()
        assert [(row.home, row.state) for row in pair.a.instances()] == [("a", "sorted"), ("b", "duplicate")]
        assert len(pair.a.works()) == 1

    @pytest.mark.slow
    def test_other_pixels_under_its_uid_are_quarantined_and_another_identity_corrects_it(self, pair) -> None:
        pair.open("a", "b")
        pair.a.arrive(instance())
        pair.settle()
        pair.b.arrive(instance(pixels=PIXELS[::-1].copy()))
        pair.settle()
        pair.b.arrive(instance(PatientID="P2"))
        pair.settle()
        assert [(row.home, row.state) for row in pair.a.instances()] == [
            ("a", "corrected"),
            ("b", "quarantined"),
            ("b", "sorted"),
        ]
        assert [(work.home, work.state) for work in pair.a.works()] == [("a", "superseded"), ("b", "waiting")]

    @pytest.mark.slow
    def test_a_twin_whose_film_lies_at_one_that_is_away_waits_and_nothing_behind_it_does(
        self, pair, monkeypatch
    ) -> None:
        refused, borrowed = threading.Event(), Siblings.borrowed

        @contextmanager
        def watched(siblings, films):
            try:
                with borrowed(siblings, films) as paths:
                    yield paths
            except SiblingAway:
                refused.set()
                raise

        monkeypatch.setattr(Siblings, "borrowed", watched)
        pair.a.arrive(instance())
        pair.settle()
        waiting = pair.b.arrive(instance())
        pair.b.arrive(instance("1.2.9", StudyInstanceUID="1.2.90"))
        until = time.monotonic() + 120
        while len(pair.b.works()) < 2:
            pair.b.triage.step()
            assert time.monotonic() < until
        assert refused.wait(120)
        assert pair.b.files("received") == [waiting]
        pair.open("a")
        pair.settle()
        assert [row.state for row in pair.a.instances()] == ["sorted", "sorted", "duplicate"]


class TestFilms:
    @pytest.mark.slow
    def test_a_film_is_read_wherever_it_lies(self, pair) -> None:
        pair.open("a", "b")
        pair.a.arrive(instance())
        pair.settle()
        (row,) = pair.a.instances()
        kept = (pair.a.context.spool.root / row.path).read_bytes()
        worklist = StoreWorklist(pair.b.context)
        (lease,) = worklist.lease(1, "reader")
        assert bytes(worklist.film(lease, 0)) == kept
        over_http = HttpWorklist(f"http://127.0.0.1:{pair.ports['b']}/b")
        assert over_http.film(lease, 0) == kept
        with pair.b.context.siblings.borrowed([Held("a", row.path, row.study_uid)]) as (path,):
            assert path.read_bytes() == kept
        assert not path.exists()
        over_http.close()

    @pytest.mark.slow
    def test_a_film_that_is_gone_is_missing_and_one_at_an_intake_that_is_away_waits(self, pair) -> None:
        pair.open("a", "b")
        pair.a.arrive(instance())
        pair.settle()
        (row,) = pair.a.instances()
        worklist = StoreWorklist(pair.b.context)
        (lease,) = worklist.lease(1, "reader")
        (pair.a.context.spool.root / row.path).unlink()
        with pytest.raises(SourceMissing, match="image 1 of 1"):
            worklist.film(lease, 0)
        pair.shut("a")
        with pytest.raises(SiblingAway):
            worklist.film(lease, 0)
        over_http = HttpWorklist(f"http://127.0.0.1:{pair.ports['b']}/b")
        with pytest.raises(SiblingAway) as caught:
            over_http.film(lease, 0)
        over_http.close()
        failure = failure_of(caught.value, 1.0)
        assert failure.kind is FailureKind.LATER
        before = time.time()
        worklist.fail(lease, failure)
        (work,) = pair.a.works()
        assert (work.state, work.attempts, work.alone) == ("waiting", 0, False)
        assert work.not_before > before + 1.5

    def test_another_intake_behind_the_address_tells_nothing_of_the_film(self, pair) -> None:
        pair.open("b")
        pair.a.arrive(instance())
        pair.settle()
        (row,) = pair.a.instances()
        live = pair.b.context.live
        live.change(gateway=replace(live.current.gateway, sibling_url=f"http://127.0.0.1:{pair.ports['b']}/b"))
        with pytest.raises(SiblingAway, match="a answers 421"), pair.b.context.siblings.borrowed([_held(row)]):
            pass

    def test_works_of_one_that_is_away_are_not_leased_and_press_on_nobody(self, pair) -> None:
        pair.b.now = time.time() - 3600
        pair.b.arrive(instance())
        pair.b.settle()
        pair.a.arrive(instance("1.2.9", StudyInstanceUID="1.2.90"))
        pair.a.settle()
        leased = StoreWorklist(pair.a.context).lease(9, "reader")
        assert [lease.study_uid for lease in leased] == ["1.2.90"]
        assert oldest_waiting_s(pair.a.context) < 1800 < oldest_waiting_s(pair.b.context)
        (own,) = StoreWorklist(pair.b.context).lease(9, "another")
        assert own.study_uid == "1.2.3"


def _held(row) -> Held:
    return Held(row.home, row.path, row.study_uid)


def test_the_queue_shows_them_where_there_are_several(pair) -> None:
    pair.a.tick()
    with pair.a.context.store.read() as connection:
        assert intakes(connection) is None
    pair.b.tick()
    with pair.a.context.store.read() as connection:
        table = intakes(connection)
    assert list(table.columns[0].cells) == ["a", "b"]
    pair.a.arrive(instance())
    pair.a.settle()
    (shown, *_) = timeline(pair.b.context, "1.2.3")
    assert shown.title == "study 1.2.3 at a"


def test_the_doctor_says_who_was_not_heard_of(pair) -> None:
    pair.a.tick()
    pair.b.now -= 3600
    pair.b.tick()
    found = [check for check in checks(pair.a.context.settings, running=False) if check.name == "intakes"]
    assert [check.fine for check in found] == [True, None]
    assert "its films wait" in found[1].detail


@pytest.mark.pacs
class TestPostgres:
    def test_the_same_films_through_both_doors_at_once_are_filed_once(self, postgres_pair) -> None:
        pair = postgres_pair
        pair.open("a", "b")
        count = tried(15, 40)
        for number in range(count):
            for intake in (pair.a, pair.b):
                intake.arrive(instance(f"1.2.7.{number}", StudyInstanceUID=f"1.2.7.{number % 5}"))
                intake.arrive(slice_of(number))
        errors = []

        def work(intake):
            try:
                intake.settle()
            except BaseException as error:  # noqa: BLE001 -- told to the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(intake,)) for intake in (pair.a, pair.b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        states = [row.state for row in pair.a.instances()]
        assert (states.count("sorted"), states.count("duplicate")) == (2 * count, 2 * count)
        assert len({row.sop_uid for row in pair.a.instances(state="sorted")}) == 2 * count
        assert len(pair.a.works()) == count

    def test_a_series_that_both_judge_at_once_is_made_once(self, postgres_pair) -> None:
        pair = postgres_pair
        for number in range(1, 21):
            (pair.a if number % 2 else pair.b).arrive(slice_of(number, expected=20))
        pair.settle()
        for one in (pair.a, pair.b):
            one.now += AWAY_S + 5  # each holds the other for away, and judges
        threads = [threading.Thread(target=one.triage.series.check) for one in (pair.a, pair.b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (work,) = pair.a.works()
        assert len(work.sources) == 20
