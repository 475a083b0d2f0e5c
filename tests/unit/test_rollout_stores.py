"""One suite over both rollout stores: the watched folder, and a real etcd."""

import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from etcd_site import EtcdSite
from tiers import tried
from waiting import WAIT_S
from wetread_client.rollout import (
    Actor,
    AgentReport,
    AgentState,
    Conflict,
    Gate,
    RolloutError,
    StoreAway,
    WriterBusy,
    open_store,
    steps,
)
from wetread_client.rollout.etcd_connection import span

PIPELINE = "probe"
ACTOR = Actor("tester", "to see", "the chief")
NOW = threading.Event()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory):
    pytest.importorskip("etcd3gw", reason="rollouts in etcd need etcd3gw")
    site = EtcdSite(tmp_path_factory.mktemp("etcd"))
    site.start()
    yield site
    site.stop()


@pytest.fixture(params=["folder", "etcd"])
def url(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "rollout")
    return f"etcd://127.0.0.1:{request.getfixturevalue('etcd').port}/test/{tmp_path.name}"


@pytest.fixture
def store(url):
    return open_store(url)


def adopted(pipeline=PIPELINE):
    return steps.adopt(steps.begin(pipeline), 1, ACTOR)


def candidate(pipeline=PIPELINE):
    return steps.offer(adopted(pipeline), 2, Gate.PASSED, ACTOR)


def report(agent="ward-7:/var/lib/wetread/served", **changed):
    made = AgentReport(agent, PIPELINE, 1, AgentState.SETTLED, 1, 0, "cpu", "cpu-avx2", "http://127.0.0.1:8000", at=5.0)
    return replace(made, **changed)


class TestDocuments:
    def test_without_a_step_there_is_nothing(self, store):
        assert store.pipelines() == store.history(PIPELINE) == store.reports(PIPELINE) == ()
        assert store.read(PIPELINE) is None

    def test_the_newest_is_in_force_and_all_are_kept(self, store):
        first, second = adopted(), candidate()
        store.write(first)
        assert store.read(PIPELINE) == first
        store.write(second)
        assert store.read(PIPELINE) == second
        assert store.history(PIPELINE) == (first, second)

    def test_revisions_are_ordered_by_number(self, store):
        rollout = adopted()
        store.write(rollout)
        for _ in range(11):
            rollout = steps.abort(rollout, ACTOR)
            store.write(rollout)
        assert [each.revision for each in store.history(PIPELINE)] == list(range(1, 13))
        assert store.read(PIPELINE).revision == 12

    def test_pipelines_are_kept_apart_and_listed_in_order(self, store):
        for name in ("probe_b", "probe", "probe.a"):
            store.write(adopted(name))
        assert store.pipelines() == ("probe", "probe.a", "probe_b")
        assert len(store.history("probe")) == 1

    def test_another_store_object_sees_it(self, store, url):
        store.write(adopted())
        assert open_store(url).read(PIPELINE) == store.read(PIPELINE)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../probe", ".hidden", "a b"])
    def test_a_name_that_leads_elsewhere_is_refused(self, store, name):
        for call in (store.read, store.history, store.reports):
            with pytest.raises(RolloutError, match="no pipeline's name"):
                call(name)

    def test_what_contradicts_itself_is_not_written(self, store):
        with pytest.raises(RolloutError, match="no candidate"):
            store.write(replace(adopted(), shadow=True))
        assert store.read(PIPELINE) is None


class TestEmptied:
    """A share that is not mounted looks like a folder without a rollout, and all would go back to release 1."""

    @pytest.fixture
    def emptied(self, url, store, tmp_path, request):
        store.write(adopted())
        store.write(candidate())
        store.read(PIPELINE)
        if "/test/" not in url:
            shutil.rmtree(url)
            Path(url).mkdir()
        else:
            store._etcd.call("/kv/deleterange", span(f"test/{tmp_path.name}/"))
        return store

    def test_a_store_object_that_knew_more_says_so(self, emptied):
        for call in (lambda: emptied.read(PIPELINE), emptied.pipelines):
            with pytest.raises(StoreAway, match=r"not mounted, or was emptied"):
                call()

    def test_one_that_begins_over_is_no_successor(self, emptied, url):
        open_store(url).write(adopted())
        with pytest.raises(StoreAway, match="revision 2 of probe before"):
            emptied.read(PIPELINE)

    def test_who_starts_anew_takes_it_as_it_is(self, emptied, url):
        assert open_store(url).read(PIPELINE) is None


class TestConflicts:
    def test_a_revision_is_given_once(self, store):
        store.write(adopted())
        with pytest.raises(Conflict, match="look and try again"):
            store.write(adopted())

    def test_the_same_document_twice_is_a_conflict(self, store):
        first = adopted()
        store.write(first)
        with pytest.raises(Conflict):
            store.write(first)

    def test_a_gap_is_a_conflict(self, store):
        with pytest.raises(Conflict):
            store.write(candidate())
        assert store.read(PIPELINE) is None

    def test_an_old_revision_is_a_conflict(self, store):
        first, second = adopted(), candidate()
        store.write(first)
        store.write(second)
        with pytest.raises(Conflict):
            store.write(replace(first, reason="late"))
        assert store.history(PIPELINE) == (first, second)

    @pytest.mark.slow
    def test_of_many_at_once_one_comes_through(self, store, url):
        """Threads with stores of their own write the same revision, again and again."""
        rollout, times = adopted(), tried(8, 30)
        store.write(rollout)
        for _ in range(times):
            won, barrier = [], threading.Barrier(4)

            def write(name, before=rollout, won=won, barrier=barrier):
                mine, own = open_store(url), steps.abort(before, Actor(name))
                barrier.wait()
                try:
                    mine.write(own)
                    won.append(own)
                except Conflict:
                    pass

            threads = [threading.Thread(target=write, args=(f"writer {number}",)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [store.read(PIPELINE)]
            rollout = won[0]
        assert len(store.history(PIPELINE)) == times + 1


class TestWriter:
    def test_there_is_one(self, store, url):
        with store.writer(PIPELINE), pytest.raises(WriterBusy, match=PIPELINE), open_store(url).writer(PIPELINE):
            pass

    def test_it_is_free_again_afterwards(self, store, url):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), store.writer(PIPELINE):
                raise ZeroDivisionError
        with open_store(url).writer(PIPELINE):
            pass

    def test_pipelines_do_not_wait_for_each_other(self, store, url):
        with store.writer(PIPELINE), open_store(url).writer("probe_b"):
            pass

    def test_the_next_one_waits_for_it(self, store, url):
        waits, got = threading.Event(), threading.Event()

        def next_one():
            waits.set()
            with open_store(url).writer(PIPELINE, timeout_s=WAIT_S):
                got.set()

        with store.writer(PIPELINE):
            thread = threading.Thread(target=next_one)
            thread.start()
            waits.wait()
            assert not got.wait(0.3)
        assert got.wait(WAIT_S)
        thread.join()

    @pytest.mark.slow
    def test_it_ends_with_its_process(self, store, url):
        with _child(_HOLDS_LOCK, url) as child:
            assert child.stdout.readline() == b"held\n"
            with pytest.raises(WriterBusy), store.writer(PIPELINE):
                pass
            child.kill()
            child.wait()
            with store.writer(PIPELINE, timeout_s=WAIT_S):  # the lease of a dead process runs out in etcd
                pass


class TestReports:
    def test_the_last_of_every_agent_is_given(self, store):
        store.report(report())
        store.report(report("ward-8"))
        newer = report(revision=2, message="done")
        store.report(newer)
        assert sorted(store.reports(PIPELINE), key=lambda each: each.agent) == [newer, report("ward-8")]

    def test_an_agent_that_ends_in_order_is_forgotten(self, store):
        store.report(report())
        for _ in range(2):
            store.forget(report(revision=9))
        assert store.reports(PIPELINE) == ()

    def test_those_of_all_pipelines_are_given_together_also_where_nobody_has_published_yet(self, store):
        store.write(adopted())
        other = replace(report("ward-8"), pipeline="another")
        store.report(report())
        store.report(other)
        assert sorted(store.all_reports(), key=lambda each: each.agent) == [report(), other]

    def test_reports_alone_are_no_rollout(self, store):
        store.report(report())
        assert store.pipelines() == ()
        assert store.read(PIPELINE) is None

    @pytest.mark.parametrize(
        "agent", ["../../etc/passwd", ".hidden", "a/b c:d", "x" * 400, "Röntgen-1", "..", "a.json"]
    )
    def test_an_agent_may_have_any_name(self, store, agent, tmp_path):
        store.report(report(agent))
        store.report(report("another"))
        assert {each.agent for each in store.reports(PIPELINE)} == {agent, "another"}
        store.forget(report(agent))
        assert [each.agent for each in store.reports(PIPELINE)] == ["another"]


class TestChanged:
    def test_the_first_question_is_answered_at_once(self, store):
        assert store.changed(NOW, 0)
        assert not store.changed(NOW, 0)

    @pytest.mark.parametrize("change", ["write", "report", "renewed report", "forget", "another pipeline"])
    def test_every_change_is_told_once(self, store, url, change):
        other = open_store(url)
        other.write(adopted())
        other.report(report())
        store.changed(NOW, 0)
        {
            "write": lambda: other.write(candidate()),
            "report": lambda: other.report(report("ward-8")),
            "renewed report": lambda: other.report(report(at=6.0)),
            "forget": lambda: other.forget(report()),
            "another pipeline": lambda: other.write(adopted("probe_b")),
        }[change]()
        assert store.changed(NOW, WAIT_S)
        assert not store.changed(NOW, 0)

    @pytest.mark.slow
    def test_changes_within_a_moment_are_all_told(self, store, url):
        """Faster than a file system's clock ticks."""
        other, rollout = open_store(url), adopted()
        other.write(rollout)
        for _ in range(tried(15, 50)):
            store.changed(NOW, 0)
            rollout = steps.abort(rollout, ACTOR)
            other.write(rollout)
            assert store.changed(NOW, 0)

    def test_the_lock_is_no_change(self, store, url):
        store.write(adopted())
        store.changed(NOW, 0)
        with open_store(url).writer(PIPELINE):
            assert not store.changed(NOW, 0.3)

    @pytest.mark.slow
    def test_it_ends_when_it_is_told_to(self, store):
        store.changed(NOW, 0)
        stop = threading.Event()
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        assert not store.changed(stop, 60)
        timer.join()


class TestAnotherProcess:
    @pytest.mark.slow
    def test_a_share_is_in_force_there_within_a_second(self, store, url):
        store.write(adopted())
        store.write(candidate())
        with _child(_FOLLOWS, url) as child:
            assert child.stdout.readline() == b"0.0\n"
            rollout, delays = store.read(PIPELINE), []
            for percent in (30.0, 0.0, 55.0, 100.0, 10.0):
                rollout = steps.share(rollout, ACTOR, candidate_percent=percent)
                store.write(rollout)
                written = time.monotonic()
                assert child.stdout.readline() == f"{percent}\n".encode()
                delays.append(time.monotonic() - written)
            child.kill()
        assert min(delays) < 1.0, delays  # on a busy machine some come later

    @pytest.mark.slow
    def test_processes_at_once_take_every_step_once(self, store, url):
        """Each reads, takes a step and writes until it came through, without the lock."""
        processes, steps_each = tried(2, 3), 10
        last = 1 + processes * steps_each
        store.write(adopted())
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            taken = pool.starmap(_take_steps, [(url, f"writer {number}", steps_each) for number in range(processes)])
        history = store.history(PIPELINE)
        assert [each.revision for each in history] == list(range(1, last + 1))
        assert sorted(revision for each in taken for revision in each) == list(range(2, last + 1))


def _child(code, url):
    return subprocess.Popen([sys.executable, "-c", code, url, PIPELINE], stdout=subprocess.PIPE)


def _take_steps(url, name, count):
    store, taken = open_store(url), []
    while len(taken) < count:
        after = steps.abort(store.read(PIPELINE), Actor(name))
        try:
            store.write(after)
        except Conflict:
            continue
        taken.append(after.revision)
    return taken


_HOLDS_LOCK = """
import sys, time
from wetread_client.rollout import open_store
with open_store(sys.argv[1]).writer(sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""

_FOLLOWS = """
import sys, threading
from wetread_client.rollout import open_store
store, told = open_store(sys.argv[1]), None
while True:
    if store.changed(threading.Event(), 60):
        share = store.read(sys.argv[2]).candidate_percent
        if share != told:
            told = share
            print(share, flush=True)
"""
