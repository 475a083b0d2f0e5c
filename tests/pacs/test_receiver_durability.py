from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from receiver_rig import WAIT_S, film, receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver_rig import Receiver

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu is not installed (dcmtk)"),
]
traced = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
FILMS = 12
_CALL = re.compile(r"^(?P<thread>\d+)\s+\S+ (?:<\.\.\. )?(?P<call>\w+)(?:\((?P<arguments>.*)| resumed>(?P<rest>.*))$")


def is_success(argument: str) -> bool:
    """Whether what was sent is a C-STORE-RSP with status 0: (0000,0100) = 8001, (0000,0900) = 0000."""
    field_ = r"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80"
    status = r"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
    return field_ in argument and status in argument


@dataclass
class Trace:
    """What a trace of system calls says about durability, thread by thread."""

    successes: int = 0
    faults: list[str] = field(default_factory=list)
    begun: dict[str, tuple[str, str]] = field(default_factory=dict)
    file_synced: dict[str, str] = field(default_factory=dict)  # by thread: the file whose fsync returned
    moved: dict[str, int] = field(default_factory=dict)  # by thread: when its rename returned
    audited: dict[str, int] = field(default_factory=dict)  # by thread: when its audit line was written
    folder_syncs: list[tuple[int, int]] = field(default_factory=list)  # began, returned
    audit_syncs: list[tuple[int, int]] = field(default_factory=list)
    sync_began: dict[str, int] = field(default_factory=dict)

    def read(self, text: str) -> Trace:
        for number, line in enumerate(text.splitlines()):
            match = _CALL.match(line)
            if match is None:
                continue
            thread, call = match["thread"], match["call"]
            arguments = match["arguments"] if match["rest"] is None else ""
            if match["rest"] is None:
                self._begins(number, thread, call, arguments)
                self.begun[thread] = (call, arguments)
                if "<unfinished" in arguments:
                    continue
                result = arguments
            else:
                result = match["rest"]
            self._returns(number, thread, *self.begun[thread], ok=") = -1" not in result and "= ?" not in result)
        return self

    def _begins(self, number: int, thread: str, call: str, arguments: str) -> None:
        if call == "fsync":
            self.sync_began[thread] = number
        if call == "sendto" and is_success(arguments):
            self.successes += 1
            moved, audited = self.moved.pop(thread, None), self.audited.pop(thread, None)
            if moved is None or not any(moved < began <= ended < number for began, ended in self.folder_syncs):
                self.faults.append(f"line {number}: Success before the fsync of the folder")
            if audited is None or not any(audited < began <= ended < number for began, ended in self.audit_syncs):
                self.faults.append(f"line {number}: Success before the fsync of the audit")

    def _returns(self, number: int, thread: str, call: str, arguments: str, *, ok: bool) -> None:
        if not ok:
            return
        if call == "fsync":
            if "/incoming/" in arguments:
                self.file_synced[thread] = arguments.split("/incoming/")[1].split(">", maxsplit=1)[0]
            elif "/spool/received>" in arguments:
                self.folder_syncs.append((self.sync_began[thread], number))
            elif "/audit/" in arguments:
                self.audit_syncs.append((self.sync_began[thread], number))
        elif call == "rename":
            name = arguments.split("/incoming/")[1].split('"', maxsplit=1)[0] if "/incoming/" in arguments else ""
            if self.file_synced.pop(thread, None) != name:
                self.faults.append(f"line {number}: renamed before the fsync of the file")
            self.moved[thread] = number
        elif call == "write" and "/audit/" in arguments and "intake" in arguments:
            self.audited[thread] = number


@traced
def test_every_success_was_sent_after_all_three_fsyncs_had_returned(tmp_path: Path) -> None:
    log = tmp_path / "strace.log"
    calls = "trace=fsync,fdatasync,rename,sendto,write"
    tracer = ("strace", "-f", "-y", "-tt", "-x", "-s", "400", "-o", str(log), "-e", calls)
    films = [film(tmp_path / f"{n}.dcm", f"1.2.9.{n}", 40_000) for n in range(FILMS)]
    with receiver(tmp_path, tracer=tracer) as door:
        command = ["storescu", "-R", "-aec", "WETREAD", "127.0.0.1", str(door.port)]
        senders = [subprocess.Popen([*command, *map(str, films[part::3])]) for part in range(3)]
        assert [sender.wait(WAIT_S) for sender in senders] == [0, 0, 0]
        assert len(door.received()) == FILMS
        subprocess.run(["pkill", "-TERM", "-P", str(door.process.pid)], check=False)  # strace's own child
    trace = Trace().read(log.read_text())
    assert trace.successes == FILMS
    assert trace.faults == []


def test_the_reader_of_traces_finds_each_missing_fsync() -> None:
    success = r"sendto(9, \"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00\", 9) = 9"
    whole = [
        "fsync(5</s/spool/incoming/a.dcm>) = 0",
        'rename("/s/spool/incoming/a.dcm", "/s/spool/received/a.dcm") = 0',
        "fsync(6</s/spool/received>) = 0",
        'write(4</s/audit/receiver-0.jsonl>, "{intake}", 9) = 9',
        "fsync(4</s/audit/receiver-0.jsonl>) = 0",
        success,
    ]

    def faults(lines: list[str]) -> list[str]:
        return Trace().read("\n".join(f"7 12:00:00.1 {line}" for line in lines)).faults

    assert faults(whole) == []
    for missing in (0, 2, 4):
        assert len(faults(whole[:missing] + whole[missing + 1 :])) == 1
    assert faults([whole[1], *whole[:1], *whole[2:]])
    assert faults([*whole[:4], success, whole[4]])


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("door")) as running:
        yield running


@traced
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failing_fsync_is_answered_with_a700_and_leaves_nothing(door: Receiver, tmp_path: Path, nth: int) -> None:
    before = set(door.left_when_alone())
    path = film(tmp_path / "film.dcm", "1.2.9", 40_000)
    log = tmp_path / "strace.log"
    # The file's fsync, the folder's, the audit's.
    inject = f"inject=fsync:error=EIO:when={nth}"
    tracer = subprocess.Popen(
        ["strace", "-f", "-e", "trace=fsync", "-e", inject, "-o", log, "-p", str(door.process.pid)],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    assert b"attached" in tracer.stderr.readline()
    said = door.send(path)
    tracer.terminate()
    tracer.wait()
    tracer.stderr.close()
    assert "EIO" in log.read_text()
    assert "a700" in said.lower() or "OutOfResources" in said or "Out of Resources" in said
    assert "(Success)" not in said
    assert set(door.left_when_alone()) == before
    assert "(Success)" in door.send(path)
    assert len(set(door.left_when_alone()) - before) == 1


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real ext4 of its own."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed (e2fsprogs)")
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_answered_with_a700_and_nothing_is_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path, 24) as disk, receiver(disk, watermark_free_bytes=0) as door:
        films = [film(tmp_path / f"{n}.dcm", f"1.2.9.{n}", 3_000_000) for n in range(10)]
        answers = [door.send(path) for path in films]
        kept = ["(Success)" in said for said in answers]
        assert 3 < sum(kept) < 10
        assert kept == sorted(kept, reverse=True)
        assert all("resources" in said.lower() for said, ok in zip(answers, kept, strict=True) if not ok)
        assert len(door.left_when_alone()) == len(door.received()) == sum(kept)
        door.spool.remove(door.received()[0].name, "1.2.3")
        assert "(Success)" in door.send(films[-1])


def test_the_watermark_is_answered_with_a700_before_the_disk_is_full(tmp_path: Path) -> None:
    with receiver(tmp_path, watermark_free_bytes=1 << 50) as door:
        assert "resources" in door.send(film(tmp_path / "film.dcm", "1.2.9")).lower()
        assert door.echo()
        assert door.left_when_alone() == []
