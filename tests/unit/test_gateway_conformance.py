"""The conformance and integration statements: current, complete, and true to the code's tables."""

import re
from pathlib import Path

import pytest
from pydicom.uid import UID
from wetread_gateway.conformance import services
from wetread_gateway.conformance.__main__ import STATEMENTS, main
from wetread_gateway.conformance.markdown import table
from wetread_gateway.conformance.statement import conformance_statement
from wetread_gateway.delivery import statuses
from wetread_gateway.delivery.dicom_out import PROPOSALS
from wetread_gateway.delivery.statuses import Remedy, Verdict
from wetread_gateway.dimse import negotiation
from wetread_gateway.dimse.status import Status
from wetread_gateway.results.inherited import INHERITED

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_committed_statement_is_current(name):
    assert (DOCS / name).read_text() == STATEMENTS[name](), "make it anew: python -m wetread_gateway.conformance docs/"


def test_writing_them_gives_the_same_twice(tmp_path):
    main(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    main(tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first.keys() == STATEMENTS.keys()


class TestWhatTheStatementHolds:
    @pytest.fixture
    def said(self):
        return conformance_statement()

    def test_every_storage_class_that_is_accepted_and_every_class_that_is_proposed(self, said):
        for uid in [*services.storage_classes(), *(proposed for proposed, _ in PROPOSALS)]:
            assert f"| {UID(uid).name} | `{uid}` |" in said

    def test_every_status_that_is_understood_with_what_follows(self, said):
        for first, _, meaning in (*statuses.C_STORE, *statuses.STOW):
            assert f"{first:04X}" in said or f"| {first}" in said
            assert meaning.text in said
        for reason in statuses.COMMITMENT_FAILURES:
            assert f"| `0x{reason:04X}` |" in said

    def test_every_attribute_that_is_taken_over(self, said):
        assert said.count("repaired, else empty") + said.count("repaired, else left out") + said.count(
            "identity: as it is, or no object"
        ) == len(INHERITED)

    def test_a_heading_for_each_section_in_order(self, said):
        headings = [line for line in said.splitlines() if line.startswith("## ")]
        assert [heading.split()[1] for heading in headings] == [str(n) for n in range(1, len(headings) + 1)]


def test_the_statuses_that_the_door_gives_are_those_that_are_stated():
    code = "".join(path.read_text() for path in Path(negotiation.__file__).parent.glob("*.py"))
    given = {Status[name] for name in re.findall(r"\bStatus\.([A-Z_]+)\b", code)}
    assert services.GIVEN.keys() == given


def test_no_consequence_is_left_without_words():
    assert services._VERDICTS.keys() == set(Verdict)
    assert services._REMEDIES.keys() == set(Remedy)


def test_a_cell_cannot_end_its_table():
    assert table(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"
