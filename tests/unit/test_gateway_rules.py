"""Which rule an instance falls under, and what is said of the others."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from wetread_gateway.config.settings import Gateway, Match, Rule, Settings
from wetread_gateway.instance import Arrival, InstanceFacts
from wetread_gateway.rules import OF_ARRIVAL, OF_FACTS, match, pattern_complaint

FACTS = InstanceFacts(
    sop_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    study_instance_uid="1.2",
    series_instance_uid="1.2.1",
    patient_id="P",
    issuer_of_patient_id="",
    modality="DX",
    body_part="CHEST",
    view="PA",
    study_description="Thorax p.a.",
    series_description="Roentgen",
)
ARRIVAL = Arrival("dimse", "MODALITY1", "WETREAD", "127.0.0.1", "a", 0.0)


def settings(*rules: Rule) -> Settings:
    return Settings(Gateway(Path("state")), rule=rules)


def holds(facts=FACTS, arrival=ARRIVAL, **asked) -> bool:
    return match(settings(Rule("r", match=Match(**asked))), facts, arrival).rule is not None


class TestConditions:
    @pytest.mark.parametrize(
        "asked",
        [
            {"modality": ("DX",)},
            {"modality": ("CR", "DX")},
            {"modality": ("[CD]?",)},
            {"modality": ("dx",)},
            {"body_part": ("CHEST*",)},
            {"view": ("PA", "AP")},
            {"calling_ae": ("MODALITY*",)},
            {"called_ae": ("WETREAD",)},
            {"study_description": ("THORAX*",)},
            {"series_description": ("*gen",)},
            {"study_description_regex": r"p\.a\."},
            {"series_description_regex": "^Roent"},
            {"modality": ("DX",), "view": ("PA",), "study_description_regex": "Thorax"},
            {},
        ],
    )
    def test_one_that_holds(self, asked):
        assert holds(**asked)

    @pytest.mark.parametrize(
        "asked",
        [
            {"modality": ("D",)},
            {"modality": ("CR", "RG")},
            {"body_part": ("HIP",)},
            {"view": ("LL",)},
            {"calling_ae": ("PACS",)},
            {"called_ae": ("WETREAD_STAT",)},
            {"study_description": ("THORAX",)},
            {"study_description_regex": "thorax"},
            {"series_description_regex": "^oent"},
            {"modality": ("DX",), "view": ("LL",)},
        ],
    )
    def test_one_that_does_not(self, asked):
        assert not holds(**asked)

    def test_every_key_of_a_match_is_looked_at(self):
        keys = {*OF_FACTS, *OF_ARRIVAL, *(f"{name}_regex" for name in OF_FACTS if "description" in name)}
        assert keys == set(Match.__slots__)

    def test_padding_does_not_count(self):
        assert holds(replace(FACTS, modality="DX "), modality=("DX",))

    def test_a_text_is_never_code(self):
        assert not holds(study_description=("__import__('os').abort()",))

    def test_a_pattern_that_takes_for_ever_is_no_match_and_said(self):
        rule = Rule("slow", match=Match(study_description_regex="^(a|a|aa)+$"))
        started = time.thread_time()
        decision = match(settings(rule), replace(FACTS, study_description="a" * 64 + "!"), ARRIVAL)
        assert time.thread_time() - started < 2
        assert decision.rule is None
        assert "took longer than 0.05 s, which counts as no match" in decision.reasons[0]

    def test_a_glob_of_many_stars_is_decided_at_once(self):
        started = time.thread_time()
        assert not holds(replace(FACTS, study_description="a" * 10_000), study_description=("*a" * 20 + "b",))
        assert time.thread_time() - started < 1


class TestDecisions:
    def test_the_first_rule_that_matches_counts(self):
        rules = (Rule("hip", match=Match(body_part=("HIP",))), Rule("chest"), Rule("all"))
        decision = match(settings(*rules), FACTS, ARRIVAL)
        assert decision.rule is rules[1]
        assert decision.reasons == (
            "rule 'hip' does not match: body_part 'CHEST' is like none of 'HIP'",
            "rule 'chest' matches: it asks for nothing",
        )

    def test_no_rule_is_said(self):
        decision = match(settings(Rule("ct", match=Match(modality=("CT",), view=("*",)))), FACTS, ARRIVAL)
        assert decision.rule is None
        assert decision.reasons[0] == "rule 'ct' does not match: modality 'DX' is like none of 'CT'"
        assert decision.reasons[-1].startswith("no rule matches")

    def test_an_empty_value_is_shown_as_such(self):
        decision = match(settings(Rule("r", match=Match(view=("PA",)))), replace(FACTS, view=""), ARRIVAL)
        assert "view (empty) is like none of 'PA'" in decision.reasons[0]


def test_a_pattern_is_judged_before_it_is_used():
    assert pattern_complaint("a+") is None
    assert pattern_complaint("(")
