"""What only etcd does: it can be away, come back, lose an answer and forget a lease."""

import threading

import pytest
from certificates import Authority
from etcd_site import EtcdSite
from waiting import wait_for
from wetread_bench.servers import free_port
from wetread_client.rollout import Actor, StoreAway, WriterBusy, open_store, steps
from wetread_client.rollout.etcd_connection import encoded

PIPELINE = "probe"
ACTOR = Actor("tester", "to see", "the chief")


def adopted():
    return steps.adopt(steps.begin(PIPELINE), 1, ACTOR)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    pytest.importorskip("etcd3gw", reason="rollouts in etcd need etcd3gw")
    site = EtcdSite(tmp_path_factory.mktemp("etcd"))
    site.start()
    yield site
    site.stop()


class TestAway:
    def test_an_etcd_that_is_not_there_is_named(self):
        port = free_port()
        store = open_store(f"etcd://127.0.0.1:{port}/test")
        for call in (store.pipelines, lambda: store.read(PIPELINE), lambda: store.changed(threading.Event(), 0)):
            with pytest.raises(StoreAway, match=f"127.0.0.1:{port}"):
                call()

    @pytest.mark.slow
    def test_an_etcd_that_comes_back_is_used_again(self, tmp_path):
        site = EtcdSite(tmp_path)
        site.start()
        try:
            store = open_store(f"etcd://127.0.0.1:{site.port}/test")
            store.write(adopted())
            site.stop()
            with pytest.raises(StoreAway):
                store.read(PIPELINE)
            site.start()
            assert store.read(PIPELINE).revision == 1
        finally:
            site.stop()

    @pytest.mark.slow
    def test_another_member_is_asked_where_one_is_away(self, etcd, tmp_path):
        port = free_port()
        store = open_store(f"etcd://127.0.0.1:{port},127.0.0.1:{etcd.port}/test/{tmp_path.name}")
        store.write(adopted())
        assert store.read(PIPELINE).revision == 1

    def test_a_lost_answer_is_no_conflict(self, etcd, tmp_path, monkeypatch):
        """The first member obeys and its answer is lost: the second one finds our own document there."""
        both = f"127.0.0.1:{etcd.port}"
        store = open_store(f"etcd://{both},{both}/test/{tmp_path.name}")
        first = store._etcd._clients()[0]
        post = first.post

        def obeys_in_vain(url, **options):
            from etcd3gw.exceptions import ConnectionTimeoutError  # noqa: PLC0415 -- etcd may not be there

            post(url, **options)
            raise ConnectionTimeoutError("lost")

        monkeypatch.setattr(first, "post", obeys_in_vain)
        store.write(adopted())
        store._etcd._first = 0
        with store.writer(PIPELINE):
            pass


class TestLease:
    @pytest.mark.slow
    def test_it_outlives_its_lease_while_its_process_lives(self, etcd, tmp_path, monkeypatch):
        """What is left of it falls, and rises again."""
        monkeypatch.setattr("wetread_client.rollout.etcd_store.LEASE_S", 12)
        url, seen = f"etcd://127.0.0.1:{etcd.port}/test/{tmp_path.name}", []
        store = open_store(url)

        def rises_or_ends() -> bool:
            seen.append(int(store._etcd.call("/lease/timetolive", {"ID": lock["lease"]}).get("TTL", 0)))
            return seen[-1] > min(seen) or seen[-1] <= 0

        with store.writer(PIPELINE):
            [lock] = store._etcd.call("/kv/range", {"key": encoded(f"test/{tmp_path.name}/locks/{PIPELINE}")})["kvs"]
            assert wait_for(rises_or_ends)
            assert seen[-1] > min(seen), seen
            with pytest.raises(WriterBusy), open_store(url).writer(PIPELINE):
                pass


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("etcd-tls")
    authority = Authority(folder)
    server = authority.issue("server")
    site = EtcdSite(folder, tls=(authority.file, server.certificate, server.key))
    site.start()
    yield site, authority
    site.stop()


class TestTls:
    @pytest.mark.slow
    def test_a_client_with_a_certificate_is_let_in(self, guarded):
        etcd, authority = guarded
        mine = authority.issue("commander")
        files = f"ca={authority.file}&cert={mine.certificate}&key={mine.key}"
        store = open_store(f"etcds://127.0.0.1:{etcd.port}/test?{files}")
        store.write(adopted())
        assert store.read(PIPELINE).revision == 1

    def test_one_without_is_not(self, guarded):
        etcd, authority = guarded
        with pytest.raises(StoreAway, match="certificate"):
            open_store(f"etcds://127.0.0.1:{etcd.port}/test?ca={authority.file}").read(PIPELINE)

    def test_a_server_of_another_authority_is_not_trusted(self, guarded, tmp_path):
        etcd, _ = guarded
        stranger = Authority(tmp_path, "stranger")
        with pytest.raises(StoreAway, match=r"(?i)certificate"):
            open_store(f"etcds://127.0.0.1:{etcd.port}/test?ca={stranger.file}").read(PIPELINE)
