"""What only the watched folder does, and how stores are addressed."""

import os
import signal
import subprocess
import sys

import pytest
from wetread_client.rollout import Actor, Gate, RolloutError, StoreAway, open_store, steps

PIPELINE = "probe"
ACTOR = Actor("tester", "to see", "the chief")


def adopted():
    return steps.adopt(steps.begin(PIPELINE), 1, ACTOR)


class TestFolder:
    def test_what_was_put_there_by_hand_is_named(self, tmp_path):
        store = open_store(str(tmp_path))
        store.write(adopted())
        (tmp_path / PIPELINE / "2.json").write_bytes(adopted().dump())
        with pytest.raises(RolloutError, match=r"2\.json is revision 1 of probe"):
            store.read(PIPELINE)

    @pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 99}'])
    def test_what_cannot_be_read_is_named(self, tmp_path, content):
        (tmp_path / PIPELINE).mkdir()
        (tmp_path / PIPELINE / "1.json").write_bytes(content)
        with pytest.raises(RolloutError, match=r"1\.json"):
            open_store(str(tmp_path)).read(PIPELINE)

    @pytest.mark.slow
    @pytest.mark.parametrize("call", ["fsync", "link"])
    def test_a_kill_at_any_write_leaves_all_or_nothing(self, tmp_path, call):
        store = open_store(str(tmp_path))
        for count in range(1, 10):
            before = store.read(PIPELINE)
            ended = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), call, str(count)], check=False)
            after = store.read(PIPELINE)
            assert after in (before, None) or after.revision == (before.revision if before else 0) + 1
            if ended.returncode == 0:
                break
            assert ended.returncode == -signal.SIGKILL
        assert count > 1
        assert len(store.history(PIPELINE)) == store.read(PIPELINE).revision

    def test_leftovers_of_killed_writers_go(self, tmp_path):
        store = open_store(str(tmp_path))
        store.write(adopted())
        old, new = tmp_path / PIPELINE / ".2.99.1", tmp_path / PIPELINE / ".2.98.1"
        for path in (old, new):
            path.write_text("half")
        os.utime(old, (0, 0))
        store.write(steps.offer(adopted(), 2, Gate.PASSED, ACTOR))
        assert not old.exists()
        assert new.exists(), "somebody may be writing it now"

    def test_a_folder_that_is_a_file_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreAway, match="file"):
            open_store(str(tmp_path / "file" / "rollout")).write(adopted())


class TestAddresses:
    @pytest.mark.parametrize(
        "url", ["s3://bucket/rollout", "http://localhost/x", "etcd:///prefix", "etcd://host:port/p"]
    )
    def test_what_is_none_is_named(self, url):
        with pytest.raises(RolloutError, match="etcd://host:port/prefix"):
            open_store(url)

    def test_an_unknown_option_is_named(self):
        with pytest.raises(RolloutError, match="no option token; there are ca, cert and key"):
            open_store("etcds://host/prefix?token=1")

    @pytest.mark.parametrize(
        ("url", "where"),
        [
            ("etcd://host", "etcd://host:2379/wetread"),
            ("etcd://a:1,b:2/x/y/", "etcd://a:1,b:2/x/y"),
            ("etcds://[::1]:3/x?ca=/c.pem", "etcds://::1:3/x"),
        ],
    )
    def test_addresses_are_read(self, url, where):
        assert open_store(url).where == where

    def test_files_have_an_address_too(self, tmp_path):
        open_store(f"file://{tmp_path}").write(adopted())
        assert open_store(str(tmp_path)).read(PIPELINE).revision == 1


_KILLED = f"""
import os, signal, sys
from wetread_client.rollout import Actor, open_store, steps
folder, call, count = sys.argv[1:]
real, left = getattr(os, call), [int(count)]
def counted(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(os, call, counted)
store = open_store(folder)
before = store.read({PIPELINE!r})
actor = Actor("child")
store.write(steps.abort(before, actor) if before else steps.adopt(steps.begin({PIPELINE!r}), 1, actor))
"""
