from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field

import pytest
import yaml
from rules import CHECKOUT, FOREIGN, MONITORING, alerts, groups, metrics_of, rules
from scraped import DAY_S, Change, One, healthy
from tiers import tried

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="not installed: prometheus (make setup-system)"),
]

GIB = 2.0**30
MINUTES = 75  # the longest `for` but one is an hour
ASKED = set().union(*(metrics_of(rule["expr"]) for rule in rules()))
BUDGETS = frozenset({"WetreadBudgetBurnsFast", "WetreadBudgetBurns", "WetreadBudgetBurnsSlowly"})


@dataclass(frozen=True)
class Ill:
    """What goes wrong, and which alerts fire for it, all of them."""

    changes: tuple[Change, ...]
    fires: frozenset[str]
    is_long: bool = False


def ill(name: str, *fires: str, start: float | None = None, step: float | None = None, **labels: str) -> Ill:
    return Ill((Change(name, labels, start, step),), frozenset(fires))


def slow(share: float, *fires: str, priority: str = "routine", edge: str = "2.0") -> Ill:
    """This share of readings is slower than the edge; the recorded ones were all faster."""
    change = Change("wetread_gateway_study_seconds_bucket", {"le": edge, "priority": priority}, times=1 - share)
    return Ill((change,), frozenset(fires))


G, R, A = "wetread_gateway", "wetread_reader", "wetread_agent"
CASES: dict[str, Ill] = {
    "a pod is gone": ill("up", "WetreadTargetDown", start=0, endpoint="http"),
    "an intake's memory fills": ill(f"{G}_memory_bytes", "WetreadMemoryHigh", start=0.86e12),
    "a container's memory fills": ill("container_memory_working_set_bytes", "WetreadContainerMemoryHigh", start=3.5e9),
    "routine work waits": ill(f"{G}_oldest_waiting_seconds", "WetreadQueueOld", start=16),
    "the doors refuse": ill(f"{G}_refused_total", "WetreadRefusing", *BUDGETS, step=5, door="http", reason="overload"),
    "STAT waits": ill(f"{G}_oldest_stat_seconds", "WetreadStatOld", start=6),
    "nobody reads": Ill(
        (
            Change(f"{G}_queue_depth", {"state": "waiting"}, 5),
            Change(f"{G}_study_seconds_count", {}, step=0),
        ),
        frozenset({"WetreadNothingRead"}),
    ),
    "a reader is cut off": ill(f"{R}_last_lease_seconds", "WetreadReaderAway", start=100, step=0),
    "a pipeline is paused": ill(f"{R}_paused", "WetreadPipelinePaused", start=1),
    "a work was given up": ill(f"{G}_dead_letters", "WetreadDeadLetter", start=1, kind="work"),
    "an instance contradicts itself": ill(f"{G}_quarantined", "WetreadQuarantined", start=1),
    "the PACS is away": ill(f"{G}_queue_age_seconds", "WetreadDeliveryStuck", start=901, stage="deliver"),
    "the disk is nearly full": ill(f"{G}_spool_bytes_free", "WetreadDiskNearWatermark", start=1.9 * GIB),
    "the disk is full": ill(f"{G}_spool_bytes_free", "WetreadDiskUnderWatermark", start=0.9 * GIB),
    "a certificate has twenty days": ill(
        f"{G}_certificate_not_after_seconds", "WetreadCertificateEndsSoon", start=20 * DAY_S
    ),
    "a certificate has two days": ill(
        f"{G}_certificate_not_after_seconds", "WetreadCertificateEndsSoon", "WetreadCertificateEndsNow", start=2 * DAY_S
    ),
    "a certificate cannot be read": ill(
        f"{G}_certificate_not_after_seconds", "WetreadCertificateEndsSoon", "WetreadCertificateEndsNow", start=0
    ),
    "a stub is dead": ill(f"{A}_dead_stubs", "WetreadStubDead", start=1),
    "stubs die again and again": ill(f"{A}_heals_total", "WetreadStubHealedOften", step=0.1),
    "a promotion is not carried out": ill(f"{A}_settled", "WetreadPromoteUnsettled", start=0),
    "the autoscaler can do no more": ill(
        "kube_horizontalpodautoscaler_status_current_replicas", "WetreadHpaAtMaximum", start=20
    ),
    "a scanner has changed": ill(f"{G}_drift_psi", "WetreadDrift", start=0.3),
    "a scanner changes": Ill((Change(f"{G}_drift_psi", {}, 0.15),), frozenset({"WetreadDriftBegins"}), is_long=True),
    "a third of the films is slow": slow(0.33, *BUDGETS),
    "a third of STAT is slow": slow(0.33, *BUDGETS, priority="stat", edge="1.0"),
    "one film in ten is slow": slow(0.10, "WetreadBudgetBurns", "WetreadBudgetBurnsSlowly"),
    "one film in fifty is slow": slow(0.02, "WetreadBudgetBurnsSlowly"),
    "works are given up at once": ill(f"{G}_alerts_total", *BUDGETS, step=1, kind="dead_work"),
}


@dataclass
class Run:
    """Tests of one promtool run: those with a sample a minute, or one in half an hour."""

    interval_s: int
    samples: int
    tests: list[dict[str, object]] = field(default_factory=list)

    def add(self, name: str, changes: tuple[Change, ...], fires: frozenset[str]) -> None:
        series = baseline(self.interval_s)
        for change in changes:
            series = change.on(series)
        asked = {
            "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{self.interval_s * self.samples // 60}m",
            "exp_samples": [{"labels": f'{{alertname="{one}"}}', "value": 1} for one in sorted(fires)],
        }
        self.tests.append(
            {
                "name": name,
                "interval": f"{self.interval_s}s",
                "input_series": [one.promtool(self.samples) for one in series],
                "promql_expr_test": [asked],
            }
        )


def baseline(interval_s: int) -> list[One]:
    """A healthy stack with a disk and a memory of round numbers, so that changes stand beside them."""
    series = healthy(interval_s)
    for name, value in (("spool_bytes_watermark", GIB), ("spool_bytes_free", 50 * GIB), ("memory_limit_bytes", 1e12)):
        series = Change(f"wetread_gateway_{name}", {}, value).on(series)
    edges = (("routine", "2.0"), ("routine", "1.0"), ("stat", "2.0"), ("stat", "1.0"))
    counts = {p: c.step for p, _ in edges for c in series if c.matches(f"{G}_study_seconds_count", {"priority": p})}
    for priority, edge in edges:  # the machine that recorded may have been busy
        labels = {"priority": priority, "le": edge}
        series = Change(f"{G}_study_seconds_bucket", labels, counts[priority], counts[priority]).on(series)
    return [one for one in series if one.name in ASKED]


def promtool(folder, *runs: Run) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    files = []
    for number, run in enumerate(runs):
        files.append(folder / f"test{number}.yml")
        content = {"rule_files": ["rules.yml"], "evaluation_interval": f"{run.interval_s}s", "tests": run.tests}
        files[-1].write_text(yaml.safe_dump(content))
    command = ["promtool", "test", "rules", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_alert_fires_for_what_it_is_for_and_no_other_does(tmp_path):
    minutes, half_hours = Run(60, MINUTES), Run(1800, 60)
    for name, case in list(CASES.items())[:: tried(4, 1)]:
        (half_hours if case.is_long else minutes).add(name, case.changes, case.fires)
    done = promtool(tmp_path, minutes, half_hours)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_no_alert_fires_while_all_is_well(tmp_path):
    minutes, half_hours = Run(60, MINUTES), Run(1800, 60)
    for run in (minutes, half_hours):
        run.add("healthy", (), frozenset())
    done = promtool(tmp_path, minutes, half_hours)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_promtool_sees_an_alert_that_should_not_fire(tmp_path):
    run = Run(60, MINUTES)
    case = CASES["STAT waits"]
    run.add("expects silence", case.changes, frozenset())
    assert "WetreadStatOld" in promtool(tmp_path, run).stderr


def test_no_alert_lacks_a_case_in_which_it_fires():
    assert frozenset().union(*(case.fires for case in CASES.values())) == set(alerts())


def test_the_healthy_series_hold_everything_that_the_rules_ask_for():
    told = {one.name for one in healthy(60)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert ASKED - told - recorded == set()
    assert ASKED >= FOREIGN, "the list of foreign metrics names one that no rule asks for"


def test_promtool_finds_no_fault_in_the_rules(tmp_path):
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules())} rules found" in done.stdout


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(name):
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("info", "warning", "critical")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (CHECKOUT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_objectives_file_is_what_its_generator_writes():
    done = subprocess.run(
        [shutil.which("python3", path=str(CHECKOUT / ".venv" / "bin")) or "python3", "-c", _GENERATED],
        capture_output=True,
        text=True,
        check=True,
        cwd=MONITORING,
    )
    assert done.stdout == (MONITORING / "slo.yaml").read_text(), "run python k8s/components/monitoring/slo.py"


_GENERATED = "import slo; print(slo.text(), end='')"
