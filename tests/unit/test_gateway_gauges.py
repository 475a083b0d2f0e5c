from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from certificates import Authority
from prometheus_client import REGISTRY
from wetread_gateway import metrics
from wetread_gateway.config.settings import Destination, Gateway, Settings
from wetread_gateway.memory import memory
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import WorkState
from wetread_gateway.web.gauges import Costly, Gauges
from wetread_gateway.web.machine_gauges import Certificates
from works import Works, configuration

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
KIB = 1024


@pytest.fixture
def works(tmp_path):
    opened = Works.open(configuration(tmp_path), "http")
    yield opened
    opened.close()


def told(works: Works) -> dict[str, list[tuple[dict[str, str], float]]]:
    families = Gauges(works.context).collect()
    return {family.name: [(sample.labels, sample.value) for sample in family.samples] for family in families}


def value(works: Works, name: str, **labels: str) -> float:
    (found,) = [one for have, one in told(works)[f"wetread_gateway_{name}"] if have == labels]
    return found


class TestMemory:
    @pytest.fixture
    def machine(self, tmp_path):
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
        (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
        (tmp_path / "cgroup").mkdir()
        return tmp_path

    def cgroup(self, machine: Path, limit: str) -> None:
        (machine / "cgroup" / "memory.max").write_text(f"{limit}\n")
        (machine / "cgroup" / "memory.current").write_text(f"{300 * KIB}\n")
        (machine / "cgroup" / "memory.stat").write_text(f"anon 1\ninactive_file {100 * KIB}\n")

    def look(self, machine: Path):
        found = memory(machine / "cgroup", machine / "proc")
        return found.used / KIB, found.limit / KIB

    def test_a_container_counts_without_the_pages_that_can_be_dropped(self, machine):
        self.cgroup(machine, str(500 * KIB))
        assert self.look(machine) == (200, 500)

    def test_without_a_limit_the_machines_counts(self, machine):
        self.cgroup(machine, "max")
        assert self.look(machine) == (200, 1000)

    def test_without_cgroups_the_machine_counts(self, machine):
        assert self.look(machine) == (600, 1000)


class TestCertificates:
    def settings(self, *files: Path) -> Settings:
        where = tuple(Destination(f"d{number}", authorities=file) for number, file in enumerate(files))
        return Settings(Gateway(Path("/nowhere")), destination=where)

    def ends(self, certificates: Certificates, *files: Path) -> list[float]:
        (family,) = certificates.gauges(self.settings(*files))
        assert {sample.labels["role"] for sample in family.samples} <= {"destination_authorities"}
        return [sample.value for sample in family.samples]

    def test_the_first_that_ends_is_told(self, tmp_path):
        pem = Authority(tmp_path).issue("one").certificate
        (end,) = self.ends(Certificates(), pem)
        assert 0 < end - time.time() < 2 * 86400

    def test_a_renewed_file_is_taken_up_and_a_broken_one_tells_the_worst(self, tmp_path):
        certificates, pem = Certificates(), Authority(tmp_path).issue("one").certificate
        assert self.ends(certificates, pem) > [0.0]
        pem.write_text("no certificate")
        assert self.ends(certificates, pem) == [0.0]
        assert self.ends(certificates, tmp_path / "absent.pem") == [0.0]


class TestGauges:
    def test_a_stat_work_that_waits_shows_its_age_until_it_is_read(self, works):
        works.add(priority=Priority.STAT, created_at=time.time() - 100)
        works.add(priority=Priority.ROUTINE, created_at=time.time() - 900)
        assert 100 <= value(works, "oldest_stat_seconds") < 800
        assert value(works, "oldest_waiting_seconds") >= 900

    def test_a_stat_image_that_is_not_sorted_counts_too(self, works):
        name = f"0-{int((time.time() - 50) * 1e9):020d}-receiver-0-0.dcm"
        (works.context.spool.received / name).touch()
        assert value(works, "oldest_stat_seconds") >= 50

    def test_an_intake_tells_of_its_own_works_alone(self, works):
        works.add()
        works.add(home="another")
        assert value(works, "queue_depth", state="waiting") == 1

    def test_a_costly_look_is_not_repeated_at_once(self):
        looks = []

        def look(_connection):
            looks.append(None)
            time.sleep(0.02)
            yield from ()

        costly = Costly(look)
        for _ in range(5):
            costly.families(None)
        assert len(looks) == 1

    def test_a_work_of_which_no_image_is_known_is_no_latency(self):
        before = metrics.STUDY_SECONDS.labels("routine")._sum.get()
        metrics.observe_since(metrics.STUDY_SECONDS, Priority.ROUTINE, None)
        assert metrics.STUDY_SECONDS.labels("routine")._sum.get() == before


def test_the_table_of_the_page_names_every_metric_of_the_gateway_and_no_other(works):
    metrics.expose_zeros()
    counted = {family.name + ("_total" if family.type == "counter" else "") for family in REGISTRY.collect()}
    mine = {name for name in {*counted, *told(works)} if name.startswith("wetread_gateway_")}
    rows = re.findall(r"^\| `(wetread_gateway_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(mine)


def test_what_waits_is_found_without_going_through_what_is_finished(works):
    with works.context.store.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT state, count(*), min(created_at) FROM works "
            f"WHERE state IN ('{WorkState.WAITING}', '{WorkState.READ}') AND home = '' GROUP BY state"
        ).all()
    assert any("works_by_state" in row[-1] for row in plan), plan
