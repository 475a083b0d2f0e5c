"""The gate without a server: which films, what the answers say, which limits they break, what is left in the draft."""

import json
import math
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiers import tried
from wetread_models.calibrate import bootstrap_auc
from wetread_models.statistics import bootstrap_difference
from wetread_models.synthetic import FilmModel
from wetread_release.checkout import shipped_pipeline
from wetread_release.draft import content_digest
from wetread_release.errors import Absent, BadDraft, GateFailed
from wetread_release.evidence import gate_records
from wetread_release.evidence import golden_films as read_golden
from wetread_release.gate import judge as judge_module
from wetread_release.gate.films import (
    FilmSet,
    GateFilm,
    films_in,
    films_of_test_patients,
    patient_hash,
    synthetic_films,
)
from wetread_release.gate.judge import Asked, Judged, judge
from wetread_release.gate.lay_out import check_served_on_cpu, side_of_checkout, side_of_draft
from wetread_release.gate.limits import Limits
from wetread_release.gate.measure import Cost, memory_mib
from wetread_release.gate.record import (
    Outcome,
    check_not_weaker,
    drop_records,
    earlier_runs,
    write_golden,
    write_record,
)
from wetread_release.gate.report import FlipPictures, write_report
from wetread_release.gate.run import check_patients, demand
from wetread_release.gate.server import Answer
from wetread_release.gate.verdict import FIGURES, failures, figures
from wetread_release.golden import golden_seeds
from wetread_release.manifest import GateSummary, GoldenRecord

ROOT = Path(__file__).parents[2]
COST = Cost(10.0, 20.0, 100.0, 8, 40.0, 200.0)
LABELS = ("ill",)
LIMITS = Limits()


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    """Intervals of few draws: no limit is about an interval, and what draws give is tested with the statistics."""
    draws = tried(50, 2000)
    monkeypatch.setattr(judge_module, "bootstrap_auc", partial(bootstrap_auc, draws=draws))
    monkeypatch.setattr(judge_module, "bootstrap_difference", partial(bootstrap_difference, draws=draws))


def film_set(count: int = 40, *, labelled: bool = True) -> FilmSet:
    """Films of which every second one is ill, two to a patient."""
    return FilmSet(
        tuple(
            GateFilm(f"film {n}", None, b"film", ("ill" if n % 2 else "well") if labelled else "", f"patient {n // 4}")
            for n in range(count)
        ),
        "a folder",
    )


def answers(probabilities: list[float], threshold: float = 0.5) -> Asked:
    told = tuple(Answer((p,), (p >= threshold,), 0.5, np.full((1, 4, 4), 7, np.uint8)) for p in probabilities)
    return Asked(LABELS, (threshold,), told)


GOOD = [0.9 - 0.001 * n if n % 2 else 0.1 + 0.001 * n for n in range(40)]


def verdict(draft: Asked, reference: Asked | None, limits: Limits = LIMITS, films: FilmSet | None = None) -> list[str]:
    judged = judge(films or film_set(len(draft.answers)), draft, reference)
    found = figures(judged, COST, COST if reference else None)
    return list(failures(judged, found, limits, "onnxruntime", "onnxruntime" if reference else None))


def test_a_draft_that_answers_like_its_reference_passes():
    judged = judge(film_set(), answers(GOOD), answers(GOOD))
    found = figures(judged, COST, COST)
    assert verdict(answers(GOOD), answers(GOOD)) == []
    assert judged.flips == ()
    assert found["auc"] == 1.0
    assert found["flips_percent"] == found["mean_difference"] == 0.0
    assert judged.parity is not None
    assert judged.parity.heatmap_levels == 0.0


def test_every_figure_of_a_record_is_explained():
    judged = judge(film_set(), answers(GOOD), answers(GOOD))
    assert set(figures(judged, COST, COST)) == set(FIGURES)


def test_films_that_flip_are_named_with_what_they_are_labelled():
    changed = list(GOOD)
    changed[7], changed[10] = 0.2, 0.7
    judged = judge(film_set(), answers(changed), answers(GOOD))
    assert [(flip.film, flip.to_positive, flip.truth) for flip in judged.flips] == [
        ("film 7", False, True),
        ("film 10", True, False),
    ]
    problems = verdict(answers(changed), answers(GOOD))
    assert any("2 films (5.00 %) flipped" in problem and "film 7, film 10" in problem for problem in problems)


def test_each_release_decides_by_its_own_threshold():
    draft = answers([p * 0.5 for p in GOOD], threshold=0.25)
    assert judge(film_set(), draft, answers(GOOD)).flips == ()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_flips_percent=0.0), "flipped"),
        (Limits(max_mean_difference=0.001), "mean difference"),
        (Limits(max_auc_drop=0.0), "AUC"),
        (Limits(max_sensitivity_drop=0.0), "drop of sensitivity"),
        (Limits(max_specificity_drop=0.0), "drop of specificity"),
        (Limits(max_calibration_rise=-1.0), "calibration"),
        (Limits(min_auc=0.9999), "the AUC is"),
        (Limits(min_sensitivity=1.0), "the sensitivity is"),
        (Limits(min_specificity=1.0), "the specificity is"),
        (Limits(min_films=41), "41 are needed"),
        (Limits(max_latency_ratio=0.9), "latency"),
        (Limits(max_memory_ratio=0.9), "memory"),
    ],
)
def test_each_limit_can_fail_a_draft(limits, words):
    loose = {field.name: math.inf if field.name.startswith("max_") else -math.inf for field in fields(Limits)}
    default = Limits()
    told = {field.name for field in fields(Limits) if getattr(limits, field.name) != getattr(default, field.name)}
    strict = Limits(**{**loose, **{name: getattr(limits, name) for name in told}})
    changed = list(GOOD)
    changed[7], changed[10] = 0.05, 0.95
    assert verdict(answers(changed), answers(GOOD), Limits(**loose)) == []
    (problem,) = verdict(answers(changed), answers(GOOD), strict)
    assert words in problem


def test_costs_are_not_judged_between_engines():
    judged = judge(film_set(), answers(GOOD), answers(GOOD))
    found = figures(judged, replace(COST, p50_ms=99.0), COST)
    assert failures(judged, found, Limits(), "tensorrt", "onnxruntime") == ()
    assert "latency" in failures(judged, found, Limits(), "onnxruntime", "onnxruntime")[0]


def test_a_probability_that_is_no_number_fails_and_is_named():
    broken = list(GOOD)
    broken[3] = math.nan
    problems = verdict(answers(broken), answers(GOOD))
    assert any(problem.startswith("film 3: the probability is no number") for problem in problems)


def test_a_film_that_only_the_draft_refuses_counts_against_it():
    draft, reference = answers(GOOD), answers(GOOD)
    refusal = Answer(error="UnsupportedImage: a reason", is_refusal=True)
    draft = replace(draft, answers=(refusal, *draft.answers[1:]))
    assert "film 0: UnsupportedImage: a reason" in verdict(draft, reference)[0]
    both = replace(reference, answers=(refusal, *reference.answers[1:]))
    judged = judge(film_set(), draft, both)
    assert (judged.unread, judged.refused) == ((), 1)
    assert verdict(draft, None)


def test_a_server_error_is_never_the_film_s_fault():
    broken = Answer(error="the stub died")
    draft = replace(answers(GOOD), answers=(broken, *answers(GOOD).answers[1:]))
    assert judge(film_set(), draft, draft).unread == (("film 0", "the stub died"),)


def test_without_labels_only_agreement_is_judged():
    judged = judge(film_set(labelled=False), answers(GOOD), answers(GOOD))
    assert judged.findings == ()
    assert judged.parity is not None
    problems = verdict(answers(GOOD), answers(GOOD), Limits(min_auc=0.9), film_set(labelled=False))
    assert "not labelled" in problems[0]


def test_each_finding_is_judged_by_its_own_numbers_and_the_worst_one_counts():
    labels, thresholds = ("ill", "well"), (0.5, 0.5)
    told = tuple(Answer((p, 1 - p if n > 7 else p), (p >= 0.5, p < 0.5)) for n, p in enumerate(GOOD))
    asked = Asked(labels, thresholds, told)
    judged = judge(film_set(), asked, asked)
    assert [each.label for each in judged.findings] == ["ill", "well"]
    assert judged.findings[0].draft.auc.value == 1.0
    assert 0.5 < judged.findings[1].draft.auc.value < 0.95
    assert figures(judged, COST, COST)["auc"] == judged.findings[1].draft.auc.value


def test_a_reference_that_reads_nothing_proves_nothing():
    broken = Asked((), (), (Answer(error="the stub died"),) * 40)
    assert any("nothing could be compared" in problem for problem in verdict(answers(GOOD), broken))


def test_findings_that_only_one_side_has_are_remarked_not_compared():
    draft = Asked(("ill", "broken"), (0.5, 0.5), tuple(Answer((p, 0.1), (p >= 0.5, False)) for p in GOOD))
    judged = judge(film_set(), draft, answers(GOOD))
    assert judged.flips == ()
    assert judged.remarks == ("the reference does not tell broken: nothing to compare with",)


def test_class_folders_label_films(tmp_path):
    for name in ("Broken_Bone/a.png", "well/b.png", "c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40), 9).save(path)
    films = films_in(tmp_path)
    assert films.truth(("broken bone", "ill")) == {"Broken_Bone/a.png": (True, False), "well/b.png": (False, False)}
    assert films.truth(("ill",)) == {}


def test_dicom_files_are_named_by_their_uid_and_patients_are_only_hashed(tmp_path):
    content = FilmModel.load(ROOT / "model_repository/chest_xray_classifier/synthetic_films.npz").dicom(
        4, "normal", 64, 64
    )
    for name in ("doe_john.dcm", "doe_john_again.dcm"):
        (tmp_path / name).write_bytes(content)
    films = films_in(tmp_path)
    assert all("doe" not in film.name for film in films.films)
    assert len({film.name for film in films.films}) == 2
    assert films.patients == {patient_hash("SYN-4")}


def test_an_empty_folder_is_said_to_hold_nothing(tmp_path):
    with pytest.raises(Absent, match="no DICOM file and no picture"):
        films_in(tmp_path)
    with pytest.raises(Absent, match="no folder"):
        films_in(tmp_path / "none")


def test_the_test_patients_of_a_training_folder(tmp_path):
    for person in range(30):
        for folder, name in (("PNEUMONIA", f"person{person}_virus_1"), ("NORMAL", f"IM-{person:04}-0001")):
            path = tmp_path / folder / f"{name}.jpeg"
            path.parent.mkdir(exist_ok=True)
            Image.new("L", (40, 40), 9).save(path)
    films = films_of_test_patients(tmp_path, 0)
    assert 0 < len(films.films) < 20
    assert films == films_of_test_patients(tmp_path, 0)
    assert films != films_of_test_patients(tmp_path, 1)
    with pytest.raises(BadDraft, match="NORMAL"):
        films_of_test_patients(tmp_path / "NORMAL", 0)


def test_fewer_films_are_the_same_ones_each_time():
    assert film_set().at_most(5) == film_set().at_most(5)
    assert len(film_set().at_most(5).films) == 5


def test_synthetic_films_are_no_truth():
    films = synthetic_films(ROOT, 2)
    assert films.synthetic
    assert films.truth(("pneumonia",)) == {}


def test_films_of_calibration_patients_are_refused_by_name(tmp_path):
    (tmp_path / "build.json").write_text(json.dumps({"calibration": {"patients": [patient_hash("patient 3")]}}))
    with pytest.raises(BadDraft, match=r"1 patients .*film 12"):
        check_patients(tmp_path, film_set())
    (tmp_path / "build.json").write_text(json.dumps({"calibration": None}))
    check_patients(tmp_path, film_set())
    (tmp_path / "build.json").write_text("[1]")
    with pytest.raises(BadDraft, match=r"build\.json"):
        check_patients(tmp_path, film_set())


def test_limits_are_read_from_toml(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text("max_flips_percent = 2\nmin_auc = 0.95\nmax_unread = inf\n")
    assert Limits.load(path) == Limits(max_flips_percent=2.0, min_auc=0.95, max_unread=math.inf)
    for text, words in (("max_flip = 1", "max_flip is no limit"), ("min_auc = 'x'", "number"), ("=", "gate.toml")):
        path.write_text(text)
        with pytest.raises(BadDraft, match=words):
            Limits.load(path)


def test_the_documented_limits_are_the_defaults():
    text = (ROOT / "docs/gate.md").read_text()
    block = text.split("```toml\n")[1].split("```")[0]
    documented = tomllib.loads(block)
    assert documented == {field.name: getattr(LIMITS, field.name) for field in fields(Limits)}


def test_the_documented_figures_are_those_of_a_record():
    text = (ROOT / "docs/gate.md").read_text()
    assert [name for name in FIGURES if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_at_idle_priority_what_is_started_is_idle_too():
    code = (
        "import os, subprocess, sys; from wetread_release.gate_command import go_idle; go_idle(); "
        "subprocess.run([sys.executable, '-c', 'import os; print(os.sched_getscheduler(0) == os.SCHED_IDLE)'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_part_for_a_gpu_is_refused_with_the_remedy(tmp_path):
    draft = shipped_pipeline(ROOT, "chest_xray").lay_out(tmp_path)
    part = draft.part("classifier")
    plan = replace(part, config=replace(part.config, backend="", platform="tensorrt_plan", kind="GPU"))
    draft = replace(draft, parts=tuple(plan if each.role == "classifier" else each for each in draft.parts))
    side = side_of_draft(tmp_path, draft, "cpu")
    assert side.engine == "tensorrt"
    with pytest.raises(BadDraft, match=r"tensorrt_plan on a GPU.*--lay-out"):
        check_served_on_cpu(side)


def test_sides_lie_beside_each_other_under_names_of_their_own(tmp_path):
    shipped = shipped_pipeline(ROOT, "chest_xray")
    draft = shipped.lay_out(tmp_path / "draft")
    for side in (side_of_draft(tmp_path / "draft", draft, "cpu"), side_of_checkout(shipped, "cpu")):
        side.write(tmp_path / "root")
    assert len(list((tmp_path / "root/model_repository").glob("*/1/*"))) == 8
    text = (tmp_path / "root/ensembles/chest_xray_draft/config.pbtxt").read_text()
    assert "chest_xray_classifier_draft" in text
    assert "reference" not in text


def test_memory_is_the_share_of_each_process(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text("00 rollup\nRss: 9000 kB\nPss: 2048 kB\nPss_Anon: 100 kB\n")
    assert memory_mib([7, 8], tmp_path) == 2.0
    assert math.isnan(memory_mib([], tmp_path))


@pytest.fixture
def outcome(tmp_path) -> Outcome:
    """A failed run over a draft in `tmp_path`, with one flip of a film with a hostile name."""
    shipped = shipped_pipeline(ROOT, "chest_xray")
    draft = shipped.lay_out(tmp_path)
    films = film_set()
    films = replace(films, films=(replace(films.films[0], name="<b>film</b>"), *films.films[1:]))
    changed = [0.8, *GOOD[1:]]
    judged = judge(films, answers(changed), answers(GOOD))
    found = figures(judged, COST, COST)
    problems = failures(judged, found, Limits(), "onnxruntime", "onnxruntime")
    return Outcome(
        GateSummary("onnxruntime", "fp32", "cpu-avx2", "cpu", not problems, found, problems, 1.0),
        content_digest(tmp_path, draft),
        side_of_draft(tmp_path, draft, "cpu"),
        side_of_checkout(shipped, "cpu"),
        films,
        Limits(),
        judged,
        {"draft": COST, "reference": replace(COST, batch_ms=math.nan)},
        True,
        ("a remark",),
        GoldenRecord("onnxruntime", "cpu-avx2", ((0.5,),) * 4, ((True,),) * 4),
    )


def test_a_record_is_what_publish_reads(tmp_path, outcome):
    write_record(tmp_path, outcome)
    assert gate_records(tmp_path, outcome.content) == (outcome.summary,)
    assert not outcome.summary.passed
    with pytest.raises(GateFailed, match="flipped"):
        demand(outcome)


def test_records_of_a_draft_that_was_changed_since_are_dropped(tmp_path, outcome):
    path = write_record(tmp_path, outcome)
    drop_records(tmp_path, outcome.content, "onnxruntime", "another device")
    assert path.is_file()
    drop_records(tmp_path, "another digest", "onnxruntime", "another device")
    assert not path.is_file()


def test_a_passed_record_is_gone_while_it_is_made_anew_and_a_failed_one_stays(tmp_path, outcome):
    place = (tmp_path, outcome.content, outcome.summary.engine, outcome.summary.device)
    path = write_record(tmp_path, outcome)
    drop_records(*place)
    assert path.is_file()
    write_record(tmp_path, replace(outcome, summary=replace(outcome.summary, passed=True)))
    drop_records(*place)
    assert not path.is_file()


def test_what_real_films_said_is_not_cleared_by_synthetic_or_fewer_ones(tmp_path, outcome):
    place = (outcome.content, outcome.summary.engine, outcome.summary.device)
    assert earlier_runs(tmp_path, *place) == ()
    write_record(tmp_path, outcome)
    earlier = earlier_runs(tmp_path, *place)
    with pytest.raises(GateFailed, match="40 real films"):
        check_not_weaker(earlier, replace(film_set(64), synthetic=True))
    with pytest.raises(GateFailed, match="39 films cannot clear"):
        check_not_weaker(earlier, film_set(39))
    check_not_weaker(earlier, film_set(40))
    write_record(tmp_path, replace(outcome, earlier=earlier))
    assert [run.passed for run in earlier_runs(tmp_path, *place)] == [False, False]
    assert earlier_runs(tmp_path, "another digest", *place[1:]) == ()


def test_synthetic_films_may_be_read_again(tmp_path, outcome):
    write_record(tmp_path, replace(outcome, films=replace(outcome.films, synthetic=True)))
    earlier = earlier_runs(tmp_path, outcome.content, outcome.summary.engine, outcome.summary.device)
    assert len(earlier) == 1
    check_not_weaker(earlier, replace(film_set(4), synthetic=True))


def test_golden_answers_of_several_devices_are_kept_beside_each_other(tmp_path, outcome):
    for device in ("cpu-avx2", "cpu-avx512_vnni"):
        there = replace(outcome, summary=replace(outcome.summary, device=device))
        write_record(tmp_path, there)
        write_golden(tmp_path, ROOT, outcome.content, replace(outcome.golden, device=device))
    golden = read_golden(tmp_path)
    assert golden is not None
    assert golden.films == golden_seeds()
    assert {record.device for record in golden.records} == {"cpu-avx2", "cpu-avx512_vnni"}
    write_golden(tmp_path, ROOT, "another content", outcome.golden)
    golden = read_golden(tmp_path)
    assert golden is not None
    assert golden.records == (outcome.golden,)


def test_the_report_holds_all_it_shows_and_trusts_no_name(tmp_path, outcome):
    pictures = {"<b>film</b>": FlipPictures("data:image/png;base64,AAAA", "data:image/png;base64,BBBB")}
    write_report(tmp_path / "report.html", outcome, pictures)
    text = (tmp_path / "report.html").read_text()
    assert "FAILED" in text
    assert "a remark" in text
    assert "data:image/png;base64,AAAA" in text
    assert "data:image/png;base64,BBBB" in text
    assert "<b>" not in text
    assert "http" not in text
    assert str(tmp_path) not in text
    assert "nan" not in text


def test_nothing_judged_is_nothing_told():
    judged = Judged(0, (), 0, None, (), ())
    assert "auc" not in figures(judged, COST, None)
