"""Reports filled from skeletons are those built in full, to the byte; and built again, they are the same."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_cases import CASES, EVERYTHING, Case, chest_film, order, reading, write
from tiers import tried
from wetread_gateway.errors import CannotReport
from wetread_gateway.results.content import facts_of
from wetread_gateway.results.order import REPORT_KINDS, ObjectKind
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.skeleton import TreeSkeleton, mark
from wetread_gateway.results.source import Source


@pytest.fixture(scope="module")
def quick():
    return Reporter()


@pytest.fixture(scope="module")
def full():
    return Reporter(quick=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_filled_object_is_the_one_built_in_full(name, quick, full, tmp_path):
    made, film = CASES[name].make(tmp_path)
    filled, built = quick.build(made, film), full.build(made, film)
    assert [thing.kind for thing in filled] == [thing.kind for thing in built]
    for one, other in zip(filled, built, strict=True):
        assert one == other, one.kind
    assert None not in quick._trees.values(), "no skeleton fitted: the slow way was taken"


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)
VARIANTS = st.fixed_dictionaries(
    {
        "PatientName": TEXT.map(lambda text: text.replace("=", "-")),
        "PatientID": TEXT,
        "StudyDescription": TEXT,
        "AccessionNumber": TEXT,
        "PatientSex": st.sampled_from(["M", "F", "O", "", "U", "female", None]),
        "PatientAge": st.sampled_from(["003Y", "030Y", "018M", "x", "", None]),
        "StudyDate": st.sampled_from(["20250615", "2025.06.15", "x", "", None]),
        "StudyTime": st.sampled_from(["101112", "10:11:12.5", "25", "", None]),
        "PatientWeight": st.sampled_from(["12.5", "", None]),
        "ImagerPixelSpacing": st.sampled_from([["0.143", "0.15"], ["1e-1", ".2"], ["1", "1.00"], None]),
        "PatientOrientation": st.sampled_from([["L", "F"], ["A", "FR"], ["L"], None]),
        "FrameOfReferenceUID": st.sampled_from(["1.2.3.4", None]),
    }
)


@pytest.mark.slow
@settings(max_examples=tried(40, 60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attributes=VARIANTS,
    probability=st.floats(0, 1),
    novelty=st.floats(0, 2),
    number=st.integers(1, 99),
    kinds=st.sampled_from(tried([frozenset({kind}) for kind in REPORT_KINDS], [frozenset(REPORT_KINDS)])),
)
def test_any_film_and_reading_fill_as_they_build(
    attributes, probability, novelty, number, kinds, quick, full, tmp_path
):
    case = Case({**attributes, "SpecificCharacterSet": "ISO_IR 192"}, probability, {"novelty": novelty})
    made, film = case.make(tmp_path)
    made = replace(made, wanted=kinds, number=number)
    assert quick.build(made, film) == full.build(made, film)


@pytest.mark.slow
def test_filling_takes_a_fraction_of_building(quick, full, tmp_path):
    made, film = Case().make(tmp_path)
    made = replace(made, wanted=frozenset({ObjectKind.SR_COMPREHENSIVE_3D}))
    quick.build(made, film)
    times = {quick: [], full: []}
    for _ in range(5):  # in turns and of this thread alone: what else the machine does falls on both or on neither
        for reporter, taken in times.items():
            started = time.thread_time()
            reporter.build(made, film)
            taken.append(time.thread_time() - started)
    assert min(times[quick]) * 5 < min(times[full])  # 16 times, measured


def test_one_skeleton_serves_films_of_one_shape(tmp_path):
    orders = [Case({"PatientID": name, "Rows": 96}).make(tmp_path)[0] for name in ("A", "B")]
    assert mark(facts_of(orders[0])) == mark(facts_of(orders[1]))
    negative = Case(probability=0.2).make(tmp_path)[0]
    assert mark(facts_of(negative)) != mark(facts_of(orders[0]))


@pytest.mark.slow
def test_a_text_that_looks_like_a_mark_is_only_a_text(quick, full, tmp_path):
    made, film = Case(reading={"warnings": ("@@hole 1000@@", "1.2.3.99999.10000")}).make(tmp_path)
    assert quick.build(made, film) == full.build(made, film)


def test_values_of_any_length_are_filled(tmp_path):
    made, _ = Case().make(tmp_path)
    facts = facts_of(made)
    skeleton = TreeSkeleton(facts)
    longer = replace(facts, comments=tuple("x" * (7 + place) for place in range(len(facts.comments))))
    assert skeleton.fill(longer) == TreeSkeleton(longer).fill(longer)
    assert skeleton.fill(facts) != skeleton.fill(longer)


_AGAIN = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from report_cases import CASES
from wetread_gateway.results.reporter import Reporter
reporter, folder = Reporter(), Path({folder!r})
print(json.dumps([
    [thing.sop_instance_uid, hashlib.sha256(thing.data).hexdigest()]
    for name in {names!r}
    for thing in reporter.build(*CASES[name].make(folder))
]))
"""


@pytest.mark.slow
def test_another_process_on_another_day_builds_the_same_bytes(quick, tmp_path):
    names = ("positive", "withdrawn", "missing slices")
    script = _AGAIN.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), names=names)
    # Sets and dictionaries of texts are in another order there than here.
    environment = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    here = [
        [thing.sop_instance_uid, hashlib.sha256(thing.data).hexdigest()]
        for name in names
        for thing in quick.build(*CASES[name].make(tmp_path))
    ]
    assert json.loads(done.stdout) == here
    assert len({uid for uid, _ in here}) == len(here)


def test_uids_tell_kinds_numbers_and_sources_apart(tmp_path):
    first, _ = Case().make(tmp_path)
    other = Source.of_file(write(tmp_path / "other.dcm", chest_film(SOPInstanceUID="1.2.3")))
    orders = [first, replace(first, number=2), order([other], reading("1.2.3"))]
    uids = [made.uid(kind) for made in orders for kind in EVERYTHING]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_the_order_of_sources_does_not_change_a_uid(tmp_path):
    made, _ = CASES["a whole series"].make(tmp_path)
    turned = replace(made, sources=made.sources[::-1])
    assert turned.uid(ObjectKind.CAPTURE) == made.uid(ObjectKind.CAPTURE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sources": ()}, "no source"),
        ({"study_uid": "1.2.3"}, "another study"),
    ],
)
def test_an_order_that_contradicts_itself_ends_as_a_reason(changes, reason, quick, tmp_path):
    made, film = Case().make(tmp_path)
    with pytest.raises(CannotReport, match=reason):
        quick.build(replace(made, **changes), film)


def test_two_patients_never_meet_in_one_report(quick, tmp_path):
    one = Source.of_file(write(tmp_path / "1.dcm", chest_film()))
    other = Source.of_file(write(tmp_path / "2.dcm", chest_film(SOPInstanceUID="1.2.3", PatientID="OTHER")))
    with pytest.raises(CannotReport, match="PatientID"):
        quick.build(order([one, other]))


@pytest.mark.parametrize("probability", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_probability_that_is_none_ends_as_a_reason(probability, quick, tmp_path):
    made, film = Case(probability=probability).make(tmp_path)
    with pytest.raises(CannotReport, match="probability"):
        quick.build(made, film)
