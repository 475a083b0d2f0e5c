"""Which arm reads whom, and the steps between rollouts."""

import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import only_full, tried
from wetread_client.rollout import Actor, Arm, Gate, Key, Rollout, RolloutError, assign, key_of, place, steps

ACTOR = Actor("tester", "the trial", "the chief")
COUNT = 100_000


def at(percent, salt="a1b2c3d4", **changed):
    rollout = Rollout("probe", 2, stable=1, candidate=2, candidate_gate=Gate.PASSED, highest=2, salt=salt)
    return replace(rollout, candidate_percent=percent, **changed)


def read_by_candidate(rollout):
    return {number for number in range(COUNT) if assign(rollout, f"PAT-{number:07}") is Arm.CANDIDATE}


class TestAssign:
    @pytest.mark.slow
    @pytest.mark.parametrize("percent", [1, 50, *only_full(0.5, 10, 30, 90, 99.5)])
    @pytest.mark.parametrize("salt", ["a1b2c3d4", *only_full("0123456789abcdef")])
    def test_the_share_of_100_000_keys_is_within_half_a_point(self, percent, salt):
        assert abs(len(read_by_candidate(at(percent, salt))) / COUNT * 100 - percent) < 0.5

    @pytest.mark.slow
    def test_a_growing_share_moves_nobody_out(self):
        shares = [read_by_candidate(at(percent)) for percent in tried((0, 30, 31, 100), (0, 1, 10, 30, 31, 75, 100))]
        for smaller, larger in itertools.pairwise(shares):
            assert smaller < larger
        assert len(shares[0]) == 0
        assert len(shares[-1]) == COUNT

    @pytest.mark.slow
    def test_another_candidate_begins_with_other_patients(self):
        first, second = (read_by_candidate(at(10, salt)) for salt in ("a1b2c3d4", "e5f6a7b8"))
        assert abs(len(first & second) / COUNT - 0.01) < 0.002, "as if by chance"

    @pytest.mark.slow
    def test_it_is_the_same_in_every_process(self):
        code = (
            "from wetread_client.rollout import *; import sys;"
            "r = Rollout.parse(sys.stdin.buffer.read());"
            "print(''.join(assign(r, f'PAT-{n}').value[0] for n in range(2000)))"
        )
        there = subprocess.run([sys.executable, "-c", code], input=at(30).dump(), capture_output=True, check=True)
        here = "".join(assign(at(30), f"PAT-{number}").value[0] for number in range(2000))
        assert there.stdout.decode().strip() == here

    def test_its_places_are_fixed_for_good(self):
        """An update that moves patients between arms in a trial must not come unnoticed; the value is openssl's."""
        assert place("a1b2c3d4", "PAT-1") == pytest.approx(0.34363521395710717, abs=1e-15)

    @given(st.text(), st.text())
    def test_every_key_has_a_place(self, salt, key):
        assert 0 <= place(salt, key) < 1

    @given(st.text())
    def test_without_a_candidate_all_is_stable(self, key):
        assert assign(None, key) is Arm.STABLE
        assert assign(at(0), key) is Arm.STABLE
        assert assign(at(0, candidate=None), key) is Arm.STABLE
        assert assign(at(100, stable=0), key) is Arm.STABLE

    @given(st.text())
    def test_at_100_per_cent_all_is_the_candidate(self, key):
        assert assign(at(100), key) is Arm.CANDIDATE


class TestKey:
    @pytest.mark.parametrize(("key", "value"), [(Key.PATIENT, "P"), (Key.STUDY, "1.2"), (Key.ACCESSION, "A")])
    def test_the_rollout_says_by_what(self, key, value):
        assert key_of(at(10, key=key), patient_id=" P ", study_uid="1.2", accession="A") == value

    @pytest.mark.parametrize("key", list(Key))
    def test_strangers_share_no_arm_by_sharing_nothing(self, key):
        assert key_of(at(10, key=key), patient_id=" ", study_uid="1.2", accession="") == "1.2"


class TestSteps:
    def test_a_release_goes_its_way(self):
        rollout = steps.adopt(steps.begin("probe"), 1, ACTOR)
        rollout = steps.offer(rollout, steps.next_number(rollout), Gate.PASSED, ACTOR)
        assert (rollout.stable, rollout.candidate, rollout.shadow, rollout.wanted) == (1, 2, True, (1, 2))
        rollout = steps.share(rollout, ACTOR, candidate_percent=30)
        rollout = steps.promote(rollout, ACTOR)
        assert (rollout.stable, rollout.candidate, rollout.previous, rollout.wanted) == (2, None, 1, (2, 1))
        assert (rollout.candidate_percent, rollout.shadow) == (0, False)
        rollout = steps.rollback(rollout, ACTOR)
        assert (rollout.stable, rollout.previous) == (1, 2)
        assert rollout.revision == 5
        assert steps.next_number(rollout) == 3

    def test_no_number_is_given_twice(self):
        rollout = steps.adopt(steps.begin("probe"), 1, ACTOR)
        for expected in (2, 3, 4):
            number = steps.next_number(rollout)
            assert number == expected
            rollout = steps.withdraw(steps.offer(rollout, number, Gate.PASSED, ACTOR), ACTOR)
        assert steps.next_number(rollout, published=9) == 10

    def test_every_candidate_has_a_salt_of_its_own(self):
        rollout = steps.adopt(steps.begin("probe"), 1, ACTOR)
        assert len({steps.offer(rollout, 2, Gate.PASSED, ACTOR).salt for _ in range(9)}) == 9

    @pytest.mark.parametrize("act", [steps.promote, lambda r, a: steps.share(r, a, candidate_percent=1)])
    @pytest.mark.parametrize("actor", [Actor("me"), Actor("me", "why"), Actor("me", approved_by="chief")])
    def test_patients_are_read_by_another_release_only_with_approval(self, act, actor):
        with pytest.raises(RolloutError, match="--approved-by and --reason"):
            act(at(0), actor)

    def test_a_share_needs_the_gate(self):
        with pytest.raises(RolloutError, match="not passed the gate"):
            steps.share(at(0, candidate_gate=Gate.NONE), ACTOR, candidate_percent=1)
        assert steps.share(at(0, candidate_gate=Gate.FORCED), ACTOR, candidate_percent=1).candidate_percent == 1

    def test_less_of_a_share_needs_nobody(self):
        assert steps.share(at(30), Actor("me"), candidate_percent=10).candidate_percent == 10

    def test_the_key_stays_while_there_is_a_share(self):
        with pytest.raises(RolloutError, match="abort first"):
            steps.share(at(30), ACTOR, key=Key.STUDY)
        assert steps.share(at(0), ACTOR, key=Key.STUDY).key is Key.STUDY

    def test_an_abort_leaves_the_candidate_loaded(self):
        rollout = steps.abort(at(30, shadow=True, light_model="probe_light"), Actor("me"))
        assert (rollout.candidate_percent, rollout.shadow, rollout.light_model) == (0, False, "")
        assert rollout.wanted == (1, 2)

    @pytest.mark.parametrize("percent", [-1, 101, float("nan"), float("inf")])
    def test_a_share_is_a_share(self, percent):
        with pytest.raises(RolloutError):
            steps.share(at(0), ACTOR, candidate_percent=percent)

    def test_a_document_survives_being_written(self):
        rollout = steps.share(at(0), ACTOR, candidate_percent=12.5, key=Key.ACCESSION, light_model="probe_light")
        assert Rollout.parse(rollout.dump()) == rollout
