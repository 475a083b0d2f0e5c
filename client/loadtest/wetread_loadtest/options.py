"""What a run is told, on the command line, in the environment or in a file of `--config`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_loadtest.schedule import Plan

if TYPE_CHECKING:
    from argparse import Namespace

    from locust.argument_parser import LocustArgumentParser


@dataclass(frozen=True, slots=True)
class Options:
    """One run. A field is the option `--load-FIELD` and the variable `WETREAD_LOAD_FIELD`."""

    url: str = "http://127.0.0.1:8080"
    """The gateway's HTTP door."""
    token: str = ""
    """Its bearer token, where it wants one (better in the environment than on the command line)."""
    dicom: str = "127.0.0.1:11112"
    """The gateway's DICOM door."""
    called: str = "WETREAD"
    called_stat: str = "WETREAD_STAT"
    triton: str = "http://127.0.0.1:8000"
    triton_grpc: str = "grpc://127.0.0.1:8001"
    pipeline: str = "chest_xray"
    """What the users of plain Triton ask."""
    shares: str = "pacs=30,series=5,dicomweb=15,read=40,triton_http=5,triton_grpc=5"
    """How the transactions are shared out."""
    stat: float = 0.05
    """Share of STAT."""
    rate: float = 0.0
    """Transactions a second; 0: by the day."""
    day_factor: float = 60.0
    """Hospitals whose days are played at once."""
    day_s: float = 60.0
    """Seconds in which the day is played."""
    seconds: float = 60.0
    """From the first transaction to the last."""
    burst: int = 8
    burst_share: float = 0.05
    slices: int = 12
    """Images of a series."""
    at_once: int = 256
    """Transactions that one class has under way at most; what is due beyond them leaves late, and counts so."""
    wait_s: float = 60.0
    """How long one answer is waited for."""
    settle_s: float = 30.0
    """How long the results of what was acknowledged are waited for at the end."""
    seed: int = 0
    """Of the films and the timetable; 0: a new one. The films of a seed that was sent before are duplicates."""
    json: str = "build/loadtest/load.json"
    """Where the report is written."""

    @property
    def plan(self) -> Plan:
        """Give the timetable's."""
        return Plan(self.seconds, self.rate, self.day_factor, self.day_s, self.burst, self.burst_share)

    def share_of(self, kind: str) -> float:
        """Give the share of one class of users; ValueError when the shares are not `name=number`."""
        shares = {
            name.strip(): float(number) for name, number in (part.split("=") for part in self.shares.split(",") if part)
        }
        return shares.get(kind, 0.0) / (sum(shares.values()) or 1.0)

    @classmethod
    def of(cls, parsed: Namespace) -> Options:
        """Take them from what locust has parsed."""
        return cls(**{field.name: getattr(parsed, f"load_{field.name}") for field in dataclasses.fields(cls)})


def add_to(parser: LocustArgumentParser) -> None:
    """Make locust know them."""
    for field in dataclasses.fields(Options):
        parser.add_argument(
            f"--load-{field.name.replace('_', '-')}",
            dest=f"load_{field.name}",
            env_var=f"WETREAD_LOAD_{field.name.upper()}",
            type=type(field.default),
            default=field.default,
            is_secret=field.name == "token",
        )
