from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import film, to_bytes
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import ks_2samp
from sqlalchemy import func, insert, select, update
from wetread_client.card import CardError, Code, Distribution, PipelineCard, Reference
from wetread_gateway.drift import counting
from wetread_gateway.drift.counting import MOST_PAIRS, MOST_SITES, OTHER, WINDOW_DAYS, Counting, scanner_of, today
from wetread_gateway.drift.gauges import FEWEST, drift_gauges
from wetread_gateway.drift.references import keep_reference
from wetread_gateway.drift.statistics import bin_of, ks, psi
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredFinding, StoredReading
from wetread_gateway.reading.wire import Completion
from wetread_gateway.reporter import ReporterStage
from wetread_gateway.state.drift_tables import DRIFT_COUNTS
from wetread_gateway.state.tables import INSTANCES, READINGS, WorkKind, WorkState
from wetread_models.data import DataError
from wetread_models.reference import distribution, reference
from works import Works, configuration

RNG = np.random.default_rng(7)
FRACTIONS = (0.1,) * 10
EDGES = tuple(round(0.1 * edge, 1) for edge in range(1, 10))
EVEN = Distribution(EDGES, FRACTIONS)
REFERENCE = Reference(1000, "a test", {"finding": EVEN}, EVEN)


def counted(values) -> list[int]:
    return np.bincount([bin_of(value, EDGES) for value in values], minlength=10).tolist()


class TestStatistics:
    def test_psi_is_the_sum_over_bins_as_numpy_has_it(self):
        counts = np.array([30, 10, 20, 20, 20, 20, 20, 20, 20, 20])
        p = (counts + 0.5) / (counts.sum() + 5)
        q = (np.array(FRACTIONS) * counts.sum() + 0.5) / (counts.sum() + 5)
        assert psi(FRACTIONS, counts.tolist()) == pytest.approx(((p - q) * np.log(p / q)).sum())

    def test_ks_is_scipys_of_the_same_binned_samples(self):
        values, expected = RNG.beta(2, 3, 500), np.repeat(np.arange(10), 100)
        counts = counted(values)
        found = np.repeat(np.arange(10), counts)
        assert ks(FRACTIONS, counts) == pytest.approx(ks_2samp(found, expected).statistic)

    def test_a_value_on_an_edge_belongs_to_the_bin_above_it(self):
        assert [bin_of(value, EDGES) for value in (0.0, 0.1, 0.95, 1.0)] == [0, 1, 9, 9]

    def test_by_chance_alone_psi_stays_under_a_tenth_nineteen_times_in_twenty(self):
        found = [psi(FRACTIONS, counted(RNG.random(FEWEST))) for _ in range(400)]
        assert np.mean(np.array(found) > 0.1) < 0.06
        assert max(found) < 0.25

    def test_an_empty_bin_is_finite(self):
        assert 0.25 < psi(FRACTIONS, [200, *[0] * 9]) < 20


@pytest.fixture
def works(tmp_path):
    opened = Works.open(configuration(tmp_path), "reporter-0-of-1")
    with opened.context.store.write() as connection:
        keep_reference(connection, reading(0.5))
    yield opened
    opened.close()


def reading(probability: float, novelty: float = 0.5, **values) -> StoredReading:
    found = StoredFinding("finding", (Code("SCT", "1", "F"),), probability, True, 0.5)
    made = StoredReading("chest_xray", "stable", 3, "a", "m", 1.0, (found,), novelty, reference=REFERENCE)
    return replace(made, **values)


def image(manufacturer: str = "ACME", model: str = "M1") -> bytes:
    return to_bytes(film(np.zeros((8, 8), np.uint16), Manufacturer=manufacturer, ManufacturerModelName=model))


def report(works: Works, stored: StoredReading, site: str = "A", data: bytes = b"", **values) -> None:
    """Have the reporter report one work without destinations."""
    work = works.add(data or image(), state=WorkState.READ, **values)
    with works.context.store.write() as connection:
        row = {"work_id": work, "document": stored.document(), "heatmap": None, "read_at": 1.0}
        connection.execute(insert(READINGS).values(row))
        ids = works.row(work).sources
        connection.execute(update(INSTANCES).where(INSTANCES.c.id.in_(ids)).values(calling_ae=site))
    assert ReporterStage(works.context).step()


def fill(works: Works, values, site: str = "A", scanner: str = "ACME M1", score: str = "finding", day=None) -> None:
    """Count many readings at once, as many reports would have."""
    key = {"pipeline": "chest_xray", "release": 3, "site": site, "scanner": scanner, "score": score}
    rows = [
        key | {"day": today() if day is None else day, "bin": at, "readings": n} for at, n in enumerate(counted(values))
    ]
    with works.context.store.write() as connection:
        connection.execute(insert(DRIFT_COUNTS), rows)


def gauges(works: Works, name: str) -> dict[tuple[str, str, str], float]:
    """Values by score, site and scanner."""
    with works.context.store.read() as connection:
        for family in drift_gauges(connection):
            if family.name == f"wetread_gateway_drift_{name}":
                label = ("score", "site", "scanner")
                return {tuple(sample.labels[key] for key in label): sample.value for sample in family.samples}
    raise AssertionError(name)


def total(works: Works) -> int:
    with works.context.store.read() as connection:
        return connection.execute(select(func.sum(DRIFT_COUNTS.c.readings))).scalar() or 0


class TestGauges:
    def test_a_scanner_that_has_shifted_stands_out_from_one_that_has_not(self, works):
        fill(works, RNG.random(500), scanner="SAME")
        fill(works, RNG.beta(5, 2, 500), scanner="SHIFTED")
        found, distance = gauges(works, "psi"), gauges(works, "ks")
        assert found["finding", "A", "SAME"] < 0.1
        assert found["finding", "A", "SHIFTED"] > 0.25
        assert distance["finding", "A", "SAME"] < 0.1
        assert distance["finding", "A", "SHIFTED"] > 0.3
        assert gauges(works, "readings")["finding", "A", "SAME"] == 500

    def test_nothing_is_said_of_too_few_readings(self, works):
        fill(works, RNG.random(FEWEST - 1))
        assert gauges(works, "psi") == gauges(works, "readings") == {}

    def test_days_before_the_window_count_no_more(self, works):
        fill(works, RNG.random(FEWEST), day=today() - WINDOW_DAYS)
        assert gauges(works, "psi") == {}
        fill(works, RNG.random(FEWEST), day=today() - WINDOW_DAYS + 1)
        assert gauges(works, "readings")["finding", "A", "ACME M1"] == FEWEST

    def test_days_of_the_window_add_up(self, works):
        for day in (today(), today() - 1):
            fill(works, RNG.random(FEWEST // 2), day=day)
        assert gauges(works, "readings")["finding", "A", "ACME M1"] == FEWEST // 2 * 2

    def test_a_release_without_a_reference_has_no_drift(self, works):
        fill(works, RNG.random(FEWEST), score="another finding")
        assert gauges(works, "psi") == {}


class TestCounting:
    def test_a_reported_reading_counts_under_its_sender_and_scanner(self, works):
        report(works, reading(0.95, novelty=0.15))
        with works.context.store.read() as connection:
            rows = connection.execute(select(DRIFT_COUNTS).order_by(DRIFT_COUNTS.c.score)).all()
        told = [(row.score, row.site, row.scanner, row.bin, row.readings) for row in rows]
        assert told == [("finding", "A", "ACME M1", 9, 1), ("novelty", "A", "ACME M1", 1, 1)]

    def test_counts_outlive_the_process(self, works, tmp_path):
        fill(works, RNG.random(FEWEST - 1))
        again = Works.open(tmp_path / "gateway.toml", "reporter-0-of-1")
        report(again, reading(0.5))
        assert gauges(again, "readings")["finding", "A", "ACME M1"] == FEWEST
        again.close()

    def test_refusals_and_corrections_say_nothing_new(self, works):
        report(works, reading(0.5, refusal=Refusal("InvalidDicom", "no")))
        report(works, reading(0.5), kind=WorkKind.REUSE)
        assert total(works) == 0

    def test_a_release_that_tells_no_reference_is_not_counted(self, works):
        report(works, reading(0.5, release=4))
        assert total(works) == 0

    def test_days_past_the_window_are_dropped(self, works):
        fill(works, RNG.random(50), day=today() - WINDOW_DAYS)
        report(works, reading(0.5))
        assert total(works) == 2

    @pytest.mark.slow
    def test_labels_are_bounded_whatever_comes(self, works, monkeypatch):
        counts = Counting(works.context)
        work = works.row(works.add(image()))
        for number in range(MOST_SITES * 4):
            origin = (f"AE{number % (MOST_SITES + 8)}", f"SCANNER {number}")
            monkeypatch.setattr(counts, "_origin", lambda *_, origin=origin: origin)
            with works.context.store.write() as connection:
                counts.count(connection, work, reading(0.5))
        with works.context.store.read() as connection:
            pairs = {tuple(row) for row in connection.execute(select(DRIFT_COUNTS.c.site, DRIFT_COUNTS.c.scanner))}
        assert len({site for site, _ in pairs}) <= MOST_SITES + 1
        assert len(pairs) <= MOST_PAIRS + MOST_SITES + 1
        assert (OTHER, OTHER) in pairs
        assert total(works) == MOST_SITES * 4 * 2

    def test_a_scanners_name_is_plain_and_short(self, tmp_path):
        path = tmp_path / "film.dcm"
        path.write_bytes(image('AC"ME\\1', "x" * 60))
        found = scanner_of(path)
        assert found.isascii()
        assert not set(found) & {'"', "\\"}
        assert len(found) <= 64

    def test_a_film_that_cannot_be_looked_at_counts_as_other(self, works):
        report(works, reading(0.5), data=b"no film")
        with works.context.store.read() as connection:
            assert set(connection.scalars(select(DRIFT_COUNTS.c.scanner))) == {OTHER}

    def test_the_window_is_longer_than_the_days_that_are_swept(self):
        assert counting.WINDOW_DAYS >= 7


class TestReferences:
    def test_the_first_reading_of_a_release_brings_its_reference(self, works):
        worklist = StoreWorklist(works.context)
        works.add(image())
        (lease,) = worklist.lease(1, "reader-0")
        worklist.complete(lease, reading(0.5, release=5))
        report(works, reading(0.5, release=5))
        assert total(works) == 4  # both works, both scores

    def test_it_comes_over_http_too(self):
        content = Completion.of(1, reading(0.5))
        assert Completion(**content).parsed().reference == REFERENCE
        content["reference"]["novelty"]["edges"] = [3.0, 2.0]
        with pytest.raises(ValueError, match="edges"):
            Completion(**content).parsed()

    def test_it_is_not_kept_with_every_reading(self):
        assert "reference" not in reading(0.5).document()

    @pytest.mark.parametrize(
        "wrong", [{"edges": []}, {"fractions": [0.1] * 9}, {"fractions": [0.2] * 10}, {"edges": [0.5] * 9}]
    )
    def test_a_distribution_that_is_none_is_refused(self, wrong):
        with pytest.raises(ValueError, match=r"reference|edges"):
            Distribution.parse({"edges": list(EDGES), "fractions": list(FRACTIONS)} | wrong)

    def test_a_models_reference_has_equal_shares_and_counts_as_the_gateway_does(self):
        values = RNG.beta(0.2, 0.2, 1000)
        told = distribution(values)
        again = np.bincount([bin_of(value, told["edges"]) for value in values], minlength=10) / 1000
        assert told["fractions"] == pytest.approx(again.tolist())
        assert max(told["fractions"]) < 0.12
        assert Distribution.parse(told).edges

    def test_the_shipped_release_tells_one_for_each_finding_and_for_novelty(self):
        folder = Path(__file__).parents[2] / "model_repository" / "chest_xray_postprocess" / "1"
        card = PipelineCard.parse((folder / "pipeline.json").read_bytes())
        assert card.reference is not None
        assert set(card.reference.findings) == {finding.label for finding in card.findings}
        assert card.reference.novelty is not None
        assert card.reference.readings > 1000

    def test_a_card_without_one_is_whole_and_a_card_with_half_of_one_is_not(self):
        folder = Path(__file__).parents[2] / "model_repository" / "chest_xray_postprocess" / "1"
        document = json.loads((folder / "pipeline.json").read_text())
        del document["reference"]["source"]
        with pytest.raises(CardError, match="not whole"):
            PipelineCard.parse(json.dumps(document).encode())
        del document["reference"]
        assert PipelineCard.parse(json.dumps(document).encode()).reference is None

    def test_a_model_that_always_says_the_same_has_no_reference(self):
        with pytest.raises(DataError, match="equal"):
            reference(["finding"], np.full((200, 1), 0.5), None, "a test")


def test_the_gauges_come_out_as_prometheus_reads_them(works):
    fill(works, RNG.random(FEWEST))

    class Shown:
        def collect(self):
            with works.context.store.read() as connection:
                yield from drift_gauges(connection)

    registry = CollectorRegistry()
    registry.register(Shown())
    names = {family.name for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert names == {f"wetread_gateway_drift_{name}" for name in ("psi", "ks", "readings")}


@pytest.mark.slow
def test_intakes_on_one_postgresql_count_together(postgres, tmp_path):
    both = [Works.open(configuration(tmp_path / name, store=postgres), "reporter-0-of-1") for name in ("a", "b")]
    for one in both:
        with one.context.store.write() as connection:
            keep_reference(connection, reading(0.5))
        report(one, reading(0.5))
    fill(both[0], RNG.random(FEWEST), site="B")
    assert gauges(both[1], "readings")["finding", "B", "ACME M1"] == FEWEST
    assert total(both[0]) == FEWEST + 4
    for one in both:
        one.close()
