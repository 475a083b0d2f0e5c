from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pydicom
import pytest
from wetread_gateway.config.settings import Intake
from wetread_gateway.errors import BadInstance, DiskFull, NotStored
from wetread_gateway.instance import Arrival
from wetread_gateway.spool.disk import RealDisk, SharedSync
from wetread_gateway.spool.spool import Spool, folder_name

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.spool.incoming import Incoming

CR = "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.3"
ARRIVAL = Arrival("dimse", "MODALITY", "WETREAD", "10.0.0.7", "receiver-0.1", 1_700_000_000.25)
STAT = Arrival("dimse", "MODALITY", "WETREAD_STAT", "10.0.0.7", "receiver-0.2", 1_700_000_001.5, stat=True)


class FailingDisk(RealDisk):
    """Fails the operation that `broken` names, with `error`."""

    def __init__(self, broken: str, error: int = errno.EIO) -> None:
        self.broken, self.error = broken, error

    def _maybe(self, name: str) -> None:
        if name == self.broken:
            raise OSError(self.error, "broken on purpose")

    def write(self, file, data):
        self._maybe("write")
        super().write(file, data)

    def fsync(self, file):
        self._maybe("fsync")
        super().fsync(file)

    def fsync_folder(self, folder):
        if folder.name in ("received", "1.2.3"):
            self._maybe("fsync_folder")
        super().fsync_folder(folder)


def begin(spool: Spool, arrival: Arrival = ARRIVAL, uid: str = "1.2.3.4") -> Incoming:
    return spool.open("receiver-0", arrival, CR, uid, EXPLICIT)


def take_in(spool: Spool, arrival: Arrival = ARRIVAL, data: bytes = b"dataset!") -> Path:
    incoming = begin(spool, arrival)
    incoming.write(data)
    return incoming.commit()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def files(spool: Spool, folder: str = "received") -> list[str]:
    return sorted(path.name for path in (spool.root / folder).rglob("*") if path.is_file())


class TestIncoming:
    def test_what_was_committed_is_a_part_10_file_that_says_how_it_came(self, spool: Spool):
        path = take_in(spool, STAT, b"\x08\x00\x60\x00CS\x02\x00DX")
        dataset = pydicom.dcmread(path)
        assert dataset.Modality == "DX"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
        assert dataset.file_meta.MediaStorageSOPClassUID == CR
        assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
        assert dataset.file_meta.SourceApplicationEntityTitle == "MODALITY"
        assert spool.arrival_of(path) == STAT

    def test_nothing_is_received_before_the_commit(self, spool: Spool):
        incoming = begin(spool)
        incoming.write(b"half")
        assert files(spool) == []
        assert files(spool, "incoming") == [incoming.name]

    def test_an_abort_leaves_nothing_before_and_after_the_commit(self, spool: Spool):
        for commits in (False, True):
            incoming = begin(spool)
            if commits:
                incoming.commit()
            incoming.abort()
            incoming.abort()
            assert files(spool, ".") == []

    @pytest.mark.parametrize("broken", ["write", "fsync", "fsync_folder"])
    @pytest.mark.parametrize(("error", "kind"), [(errno.EIO, NotStored), (errno.ENOSPC, DiskFull)])
    def test_a_step_that_fails_leaves_nothing_and_says_why(self, tmp_path: Path, broken: str, error: int, kind: type):
        spool = Spool(tmp_path / "spool", FailingDisk(broken, error))
        with pytest.raises(NotStored) as caught:
            take_in(spool)
        assert caught.type is kind
        assert files(spool, ".") == []

    def test_names_keep_the_order_of_arrival_and_stat_comes_first(self, spool: Spool):
        routine = [take_in(spool).name for _ in range(11)]
        stat = take_in(spool, STAT).name
        assert [path.name for path in spool.arrivals(20)] == [stat, *routine]
        assert [path.name for path in spool.arrivals(2)] == [stat, routine[0]]

    def test_a_file_of_somebody_else_is_refused(self, spool: Spool):
        stray = spool.received / "stray.dcm"
        stray.write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0")
        with pytest.raises(BadInstance):
            spool.arrival_of(stray)

    def test_cleaning_removes_only_what_this_slot_left(self, spool: Spool):
        mine = begin(spool)
        other = spool.open("receiver-01", ARRIVAL, CR, "1.2", EXPLICIT)
        spool.opened("receiver-0.7", "CT 1")
        spool.opened("receiver-01.7", "CT 1")
        assert spool.clean_incoming("receiver-0") == 1
        assert files(spool, "incoming") == [other.name]
        assert mine.name not in files(spool, ".")
        assert spool.open_associations("CT 1") == 1


class TestMoving:
    def test_a_moved_file_is_found_by_its_old_path_and_by_its_name(self, spool: Spool):
        path = take_in(spool)
        promised = spool.path_in(path.name, STUDY, "studies")
        assert spool.locate(promised, STUDY) == path
        assert spool.move(path.name, STUDY, "studies") == promised == f"studies/1.2.3/{path.name}"
        assert spool.move(path.name, STUDY, "studies") == promised
        assert spool.move(promised, STUDY, "done") == f"done/1.2.3/{path.name}"
        assert spool.locate(promised, STUDY) == spool.locate(path.name, STUDY) == spool.root / "done/1.2.3" / path.name

    def test_a_file_that_is_nowhere_is_not_found(self, spool: Spool):
        with pytest.raises(FileNotFoundError):
            spool.locate("studies/1.2.3/none.dcm", STUDY)

    @pytest.mark.parametrize("uid", ["../../etc", "", "..", "1.2/3", "1." * 40, "\udc80"])
    def test_an_odd_uid_becomes_a_harmless_folder(self, spool: Spool, uid: str):
        path = take_in(spool)
        moved = spool.root / spool.move(path.name, uid, "quarantine")
        assert moved.is_file()
        assert moved.parent.parent == spool.root / "quarantine"
        assert folder_name(uid) != folder_name(uid + "0")

    def test_removing_takes_the_empty_folder_along(self, spool: Spool):
        path = take_in(spool)
        moved = spool.root / spool.move(path.name, STUDY, "done")
        spool.remove(path.name, STUDY)
        spool.remove(path.name, STUDY)
        assert not moved.parent.exists()


class TestResults:
    def test_putting_the_same_twice_changes_nothing(self, spool: Spool):
        first = spool.put_result(STUDY, "2.25.1", b"report")
        assert first == "results/1.2.3/2.25.1.dcm"
        assert spool.put_result(STUDY, "2.25.1", b"report") == first
        assert (spool.root / first).read_bytes() == b"report"
        assert files(spool, "results") == ["2.25.1.dcm"]
        assert spool.locate(first, STUDY) == spool.root / first

    @pytest.mark.parametrize("broken", ["write", "fsync"])
    def test_a_failed_result_leaves_the_old_one(self, tmp_path: Path, broken: str):
        Spool(tmp_path).put_result(STUDY, "2.25.1", b"old")
        with pytest.raises(DiskFull):
            Spool(tmp_path, FailingDisk(broken, errno.ENOSPC)).put_result(STUDY, "2.25.1", b"new")
        assert [path.read_bytes() for path in (tmp_path / "results/1.2.3").iterdir()] == [b"old"]


class TestRoom:
    def test_the_watermark_is_counted_with_what_is_to_come(self, spool: Spool):
        free = spool.free_bytes()
        spool.check_room(Intake(watermark_free_bytes=free // 2))
        with pytest.raises(DiskFull):
            spool.check_room(Intake(watermark_free_bytes=free // 2), size=free)

    def test_open_associations_are_counted_by_caller(self, spool: Spool):
        spool.opened("receiver-0.1", "CT/1")
        spool.opened("receiver-1.1", "CT/1")
        spool.opened("receiver-0.2", "XCT/1")
        assert spool.open_associations("CT/1") == 2
        spool.closed("receiver-0.1", "CT/1")
        spool.closed("receiver-0.1", "CT/1")
        assert spool.open_associations("CT/1") == 1


class CountedLock:
    """A lock that lets the test wait until so many threads have come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.come = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.come.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class TestSharedSync:
    @pytest.mark.parametrize("fails", [False, True])
    def test_threads_that_ask_during_an_fsync_share_the_next_one_and_its_failure(self, fails: bool):
        go = threading.Event()
        calls: list[int] = []
        outcomes: list[str] = []

        def sync() -> None:
            calls.append(1)
            assert go.wait(5)
            if len(calls) == 2 and fails:
                raise OSError(errno.EIO, "lost")

        shared = SharedSync(sync)
        shared._turn = turn = CountedLock()

        def ask() -> None:
            try:
                shared()
                outcomes.append("ok")
            except OSError:
                outcomes.append("lost")

        def begin_and_wait(count: int) -> list[threading.Thread]:
            threads = [threading.Thread(target=ask) for _ in range(count)]
            for thread in threads:
                thread.start()
            assert all(turn.come.acquire(timeout=120) for _ in threads)
            return threads

        threads = begin_and_wait(1)
        while not calls:
            pass
        # The fsync under way may not have covered what these wrote.
        threads += begin_and_wait(5)
        go.set()
        for thread in threads:
            thread.join(5)
        assert len(calls) == 2
        assert sorted(outcomes) == (["lost"] * 5 + ["ok"] if fails else ["ok"] * 6)
        shared()
        assert len(calls) == 3
