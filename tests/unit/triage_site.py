"""A gateway of which only the spool, the state store and triage are there; its clock is turned by hand."""

import io
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from films import compressed, film, radiograph, to_bytes
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select
from wetread_gateway.audit import JsonLinesAudit
from wetread_gateway.config.settings import Gateway, Match, Rule, Settings
from wetread_gateway.context import Context
from wetread_gateway.instance import Arrival
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import EVENTS, INSTANCES, SERIES, WORKS
from wetread_gateway.triage.pixel_process import PixelProcess, PixelsUnknown
from wetread_gateway.triage.stage import Triage

CHEST = Rule("chest", "chest_xray", Match(modality=("DX",)), destinations=("pacs",))
CT = Rule("ct", "chest_ct", Match(modality=("CT",)), priority="urgent", destinations=("pacs",))
PIXELS = radiograph(32, 24)


def settings(folder: Path, *rules: Rule) -> Settings:
    return Settings(gateway=Gateway(state_dir=folder), rule=rules or (CHEST, CT))


@dataclass
class Live:
    """Settings that a test may change."""

    current: Settings

    def change(self, **fields: object) -> None:
        self.current = replace(self.current, **fields)


class LentPixels:
    """A decoder that one gateway after another uses: it takes half a second to start, and outlives them all."""

    def __init__(self) -> None:
        self._process = PixelProcess()
        self.equal, self.digest = self._process.equal, self._process.digest
        # The kernel ends it with the thread that started it, and a gateway's ends with the gateway.
        with suppress(PixelsUnknown):
            self.digest(Path("no film"))

    def close(self) -> None:
        """Its user ends; it does not."""

    def end(self) -> None:
        self._process.close()


def context_in(folder: Path, *rules: Rule) -> Context:
    return Context(
        "triage",
        Live(settings(folder, *rules)),
        Spool(folder / "spool"),
        StateStore(folder),
        JsonLinesAudit(folder / "audit", "triage"),
        folder / "bells",
    )


def instance(uid: str = "1.2.3.4.1", pixels=PIXELS, **attributes) -> bytes:
    """A DX film; `syntax`: its transfer syntax, lossless where it compresses."""
    syntax = attributes.pop("syntax", ExplicitVRLittleEndian)
    given = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientID": "P1"} | attributes
    dataset = film(pixels, SOPInstanceUID=uid, **given)
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    if syntax.is_compressed and not syntax.is_deflated:
        return compressed(dataset, syntax)
    return to_bytes(dataset, syntax)


class Site:
    """One gateway; `context` may be opened anew, as after a crash."""

    def __init__(self, folder: Path, *rules: Rule) -> None:
        self.folder = folder
        self.context = context_in(folder, *rules)
        self.now = time.time()
        self.triage = Triage(self.context, lambda: self.now)
        self._names = itertools.count()

    def arrive(self, data: bytes, *, calling_ae: str = "MOD", stat: bool = False) -> str:
        """Put a Part-10 file into `received` as a receiver does."""
        stream = io.BytesIO(data)
        stream.seek(132)
        meta = _meta(stream)
        arrival = Arrival("dimse", calling_ae, "WETREAD", "127.0.0.1", "receiver-0.1", time.time(), stat)
        incoming = self.context.spool.open("receiver-0", arrival, meta[2], meta[3], meta[0x10])
        incoming.write(data[stream.tell() :])
        return incoming.commit().name

    def settle(self) -> None:
        """Step until everything that came is sorted and nothing more is to be done."""
        until = time.monotonic() + 120
        while self.triage.step() or self.context.spool.arrivals(1):
            assert time.monotonic() < until, "triage does not settle"
            if self.triage.twins.pending:
                self.bell.wait(0.25)

    @property
    def bell(self):
        if not hasattr(self, "_bell"):
            self._bell = self.context.bell("triage")
        return self._bell

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def rows(self, table, **where):
        with self.context.store.read() as connection:
            query = select(table).order_by(*table.primary_key.columns)
            for name, value in where.items():
                query = query.where(table.c[name] == value)
            return connection.execute(query).all()

    def instances(self, **where):
        return self.rows(INSTANCES, **where)

    def works(self, **where):
        return self.rows(WORKS, **where)

    def series(self):
        return self.rows(SERIES)

    def told(self, stage: str) -> list[str]:
        return [row.message for row in self.rows(EVENTS, stage=stage)]

    def change(self, table, row_id: int, **values) -> None:
        with self.context.store.write() as connection:
            connection.execute(table.update().where(table.c.id == row_id).values(**values))

    def files(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / "spool" / folder).rglob("*.dcm"))

    def close(self) -> None:
        self.triage.close()
        if hasattr(self, "_bell"):
            self._bell.close()
        self.context.audit.close()
        self.context.store.close()


def _meta(stream: io.BytesIO) -> dict[int, str]:
    """Read group 2 and leave the stream where the dataset begins."""
    found = {}
    while True:
        at = stream.tell()
        head = stream.read(8)
        if head[:2] != b"\x02\0":
            stream.seek(at)
            return found
        length = int.from_bytes(stream.read(4), "little") if head[4:6] == b"OB" else int.from_bytes(head[6:8], "little")
        found[int.from_bytes(head[2:4], "little")] = stream.read(length).rstrip(b"\0 ").decode("latin-1")
