from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_bench_results import result
from wetread_bench.publish import DOCS, NotPublishable, publish, stale

CHECKOUT = Path(__file__).parents[2]
README = "# Title\n\n<!-- figures:films -->\nold\n<!-- /figures -->\n\nThe end.\n"


def test_publishing_copies_the_result_and_writes_the_readmes_figures(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    source = result().write(tmp_path / "build")
    copy = publish("films", tmp_path / "build", tmp_path)
    assert copy.read_text() == source.read_text()
    text = (tmp_path / "README.md").read_text()
    assert "old" not in text
    assert "| uncompressed | 60.0 |" in text
    assert text.endswith("The end.\n")
    assert stale(tmp_path) == []


def test_a_readme_that_tells_other_figures_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    result().write(tmp_path / "build")
    copy = publish("films", tmp_path / "build", tmp_path)
    document = json.loads(copy.read_text())
    document["figures"]["served_over_limit_raw"] = 0.5
    copy.write_text(json.dumps(document))
    assert stale(tmp_path) == ["films"]


def test_an_incomplete_result_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    result(complete=False).write(tmp_path / "build")
    with pytest.raises(NotPublishable, match="quick, filtered or failed"):
        publish("films", tmp_path / "build", tmp_path)
    assert not (tmp_path / DOCS).exists()


def test_a_readme_without_markers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n")
    result().write(tmp_path / "build")
    with pytest.raises(NotPublishable, match="marker"):
        publish("films", tmp_path / "build", tmp_path)
    assert not (tmp_path / DOCS).exists()


def test_the_readme_shows_the_committed_results() -> None:
    if not list((CHECKOUT / DOCS).glob("*.json")):
        pytest.skip("no result has been published yet")
    assert stale(CHECKOUT) == []
