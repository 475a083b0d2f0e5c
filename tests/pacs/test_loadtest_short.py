"""Half a minute of a hospital's load with locust, all doors and classes of users: nothing fails, nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from wetread_bench.load_stack import LoadStack, locust

if TYPE_CHECKING:
    from wetread_embedded import EmbeddedTriton

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("storescp") is None, reason="storescp is missing (make setup-system)"),
]

SECONDS = "60"
CHECKOUT = Path(__file__).parents[2]


def run(stack: LoadStack, report: Path, **options: str) -> tuple[int, dict]:
    given = {f"WETREAD_LOAD_{name.upper()}": value for name, value in options.items()}
    process = locust(
        CHECKOUT,
        {**stack.options(), "WETREAD_LOAD_JSON": str(report), **given},
        "--html",
        str(report.with_suffix(".html")),
        quiet=True,
    )
    return process.wait(900), json.loads(report.read_text())


def test_a_short_day_with_bursts_of_every_class_is_answered_and_nothing_is_lost(
    triton: EmbeddedTriton, tmp_path: Path
) -> None:
    with LoadStack(CHECKOUT, triton=triton, folder=tmp_path, overload_age_s=86400.0) as stack:
        code, told = run(
            stack,
            tmp_path / "load.json",
            seconds=SECONDS,
            day_s=SECONDS,
            day_factor="60",
            stat="0.2",
            wait_s="300",
            settle_s="300",
            shares="pacs=2,series=1,dicomweb=2,read=2,triton_http=1,triton_grpc=1",
            seed="7",
        )
        assert (code, told["failed"], told["lost"], told["refused"]) == (0, 0, 0, 0)
        kinds = {name.split(" ")[0] for name, line in told["lines"].items() if line["answered"]}
        assert kinds >= {"pacs", "series", "dicomweb", "read", "triton_http", "triton_grpc", "all"}
        assert told["lines"]["all stat"]["answered"] > 0
        assert told["generator"]["unsent"] == 0
        assert told["acknowledged_studies"] > 10
        assert "C-STORE" in (tmp_path / "load.html").read_text()
        # The same seed again sends duplicates; a gateway that is gone must not pass for one that is silent.
        stack.gateway.stop()
        code, told = run(
            stack, tmp_path / "gone.json", seconds="2", rate="4", shares="read=1,pacs=1", settle_s="0", seed="8"
        )
        assert code == 1
        assert told["failed"] == told["offered"] > 0
