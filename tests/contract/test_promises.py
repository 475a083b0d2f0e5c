"""Every promise of the documents names the tests that prove it, in the tiers that run them."""

import re

import pytest
from promises import PAGE, ROOT, NoSuchTest, read, tier, write

TEXT = PAGE.read_text()
SILENT = {"docs/promises.md", "docs/testing.md"}
"""Pages about the tests themselves."""


def test_every_page_of_the_documents_has_its_promises():
    pages = {"README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))} - SILENT
    assert pages <= {promise.page for promise in read(TEXT)}


@pytest.mark.slow
def test_every_test_that_is_named_exists_and_stands_in_the_column_of_its_tier():
    assert write(TEXT, read(TEXT)) == TEXT, "run `python tests/promises.py`"


def test_what_no_test_proves_is_said_in_the_introduction():
    unproven = [promise.sentence for promise in read(TEXT) if not promise.tests]
    introduction = TEXT.split("\n## [", maxsplit=1)[0]
    assert re.findall(r"^- (.+)$", introduction, re.MULTILINE) == unproven


@pytest.mark.parametrize(
    ("test", "runs_in"),
    [
        ("test_promises.py::test_every_page_of_the_documents_has_its_promises", "check"),
        ("test_trip.py::test_a_film_sent_over_http_is_answered_with_its_reading_and_goes_to_the_pacs", "test"),
        ("test_dockerfiles.py::test_there_is_a_dockerfile_of_every_image", "test"),
        ("test_release_gate_real.py::test_the_int8_classifier_passes", "full"),
    ],
)
def test_the_tier_of_a_test_is_read_from_its_folder_and_its_markers(test, runs_in):
    assert tier(test) == runs_in


@pytest.mark.parametrize("test", ["test_no_such_module.py::test_a", "test_promises.py::test_a", "test_trip.py::A::b"])
def test_a_test_that_does_not_exist_is_told(test):
    with pytest.raises(NoSuchTest, match="no "):
        tier(test)
