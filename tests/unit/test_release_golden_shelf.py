"""Golden films are drawn once, and as the gate draws them."""

import pytest
from tiny_release import FILM_MODEL, TinySite
from waiting import WAIT_S
from wetread_release.agent import golden_shelf
from wetread_release.agent.golden_shelf import GoldenShelf
from wetread_release.digest import file_digest
from wetread_release.errors import ServeFailed
from wetread_release.golden import draw_films
from wetread_release.manifest import Golden


@pytest.fixture(autouse=True)
def _time_to_draw(monkeypatch):
    """Of each try: a busy machine may have no idle time for the first one, and little for the second."""
    monkeypatch.setattr(golden_shelf, "_TIMEOUT_S", WAIT_S)


def golden(*films):
    return Golden(films, file_digest(FILM_MODEL), ())


@pytest.mark.slow
def test_films_are_those_of_the_gate_and_are_drawn_once(tmp_path, monkeypatch):
    root = TinySite(tmp_path / "site").root
    wanted = golden(("pneumonia", 3), ("normal", 5))
    shelf = GoldenShelf(root, tmp_path / "golden")
    films = shelf.films(wanted)
    assert films == draw_films(root, wanted.films)
    monkeypatch.setattr(golden_shelf.subprocess, "run", None)
    assert shelf.films(wanted) == films


@pytest.mark.slow
def test_films_that_cannot_be_drawn_are_told_and_leave_nothing(tmp_path):
    root = TinySite(tmp_path / "site").root
    shelf = GoldenShelf(root, tmp_path / "golden")
    with pytest.raises(ServeFailed, match=r"golden films cannot be drawn: .*draws no film of fracture"):
        shelf.films(golden(("fracture", 1)))
    assert not [path for path in (tmp_path / "golden").iterdir() if not path.name.startswith(".")]
