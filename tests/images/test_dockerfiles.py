"""What every Dockerfile keeps to, and that each lock is of its image's own extras."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from build import NAMES, named

ROOT = Path(__file__).parents[2]
IMAGES = sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "gateway": ("gateway-py311", ("gateway",)),
    "release": ("release-py311", ("release", "batch")),
    "all-in-one": ("all-in-one-py311", ("embedded", "gateway", "batch")),
    "triton": ("preprocess-py312", ("preprocess",)),
}
OF_THE_WHOLE = {"preprocess-py312"}
"""Locks with versions of their own: NVIDIA's image takes a newer numpy than the embedded server."""


def text(image: str) -> str:
    return (ROOT / "images" / image / "Dockerfile").read_text()


def instructions(image: str) -> list[tuple[str, str]]:
    """Give the instructions of a Dockerfile with their words, lines joined, comments left out."""
    lines = [line for line in text(image).splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def name(requirement: str) -> str:
    return re.split(r"[\[<>=;! ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def wanted(extras: tuple[str, ...]) -> set[str]:
    """Give the names that extras ask for by themselves, through extras of our own."""
    found: set[str] = {name(requirement) for requirement in PROJECT["dependencies"]}
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            if own := re.match(r"wetread\[(.+)\]", requirement):
                found |= wanted(tuple(own.group(1).split(",")))
            else:
                found.add(name(requirement))
    return found


def locked(lock: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_there_is_a_dockerfile_of_every_image():
    assert sorted(LOCKS) == IMAGES


@pytest.mark.parametrize("image", IMAGES)
class TestDockerfile:
    def test_the_last_user_is_the_one_that_the_manifests_name(self, image):
        assert [words for word, words in instructions(image) if word == "USER"][-1] == "10001:10001"

    def test_bases_have_a_tag_that_is_not_latest_and_take_a_digest(self, image):
        bases = [words.split()[0] for word, words in instructions(image) if word == "FROM"]
        assert bases
        for base in bases:
            assert re.fullmatch(r"[a-z0-9.]+/[a-z0-9/-]+:[a-z0-9.-]+\$\{BASE_DIGEST\}", base), base
            assert ":latest" not in base

    def test_nothing_is_fetched_but_by_apt_and_pip_from_a_lock(self, image):
        assert not [words for word, words in instructions(image) if word == "ADD"]
        runs = " ".join(words for word, words in instructions(image) if word == "RUN")
        assert not re.search(r"\b(curl|wget|git clone)\b|https?://", runs)
        for call in re.findall(r"pip(?: --python \S+)? install [^&]+", runs):
            assert re.search(r"-r \S+\.txt|-c \S+\.txt|--no-index", call), call

    def test_apt_brings_nothing_that_was_not_asked_for_and_leaves_no_lists(self, image):
        for word, words in instructions(image):
            if word == "RUN" and "apt-get install" in words:
                assert "--no-install-recommends" in words
                assert "rm -rf /var/lib/apt/lists/*" in words

    def test_labels_name_the_version_of_the_project(self, image):
        labels = " ".join(words for word, words in instructions(image) if word == "LABEL")
        assert f'image.version="{PROJECT["version"]}"' in labels
        assert f'image.title="wetread/{image}"' in labels
        assert "Not for clinical use" in labels

    def test_its_lock_is_there_and_holds_what_its_extras_ask_for(self, image):
        lock, extras = LOCKS[image]
        assert f"{lock}.txt" in text(image)
        assert wanted(extras) <= {name(package) for package in locked(lock)}

    def test_its_lock_has_the_versions_that_the_tests_run_with(self, image):
        lock = LOCKS[image][0]
        if lock in OF_THE_WHOLE:
            return
        tested = locked("py311")
        assert {package: tested.get(package) for package in locked(lock)} == locked(lock)

    def test_no_package_index_and_no_path_of_a_machine_stands_in_it(self, image):
        lock = (ROOT / "requirements" / f"{LOCKS[image][0]}.txt").read_text()
        own = text(image).replace("--no-index --find-links /wheels", "")
        assert not re.search(r"index-url|find-links|file:", lock + own)


def test_the_demo_image_says_what_its_server_is():
    assert "DEMO ONLY" in text("all-in-one")
    assert "DEMO ONLY" in (ROOT / "images" / "all-in-one" / "start.py").read_text()
    assert 'host = "127.0.0.1"' in (ROOT / "images" / "all-in-one" / "gateway.toml").read_text()


@pytest.mark.parametrize("part", ["preprocess_backend", "postprocess_backend"])
def test_backends_lie_where_the_configurations_of_the_models_look_for_them(part):
    assert f"COPY {part} /opt/tritonserver/backends/wetread_{part.removesuffix('_backend')}" in text("triton")
    used = "".join(path.read_text() for path in ROOT.glob("model_repository/*/config.pbtxt"))
    assert f'backend: "wetread_{part.removesuffix("_backend")}"' in used


@pytest.mark.parametrize(("words", "names"), [((), NAMES), (("release", "gateway"), ["release", "gateway"])])
def test_the_build_takes_the_images_that_are_named_or_all(words, names):
    assert named(words) == names


def test_the_build_refuses_a_name_that_is_none_of_them(capsys):
    with pytest.raises(SystemExit):
        named(("gatway",))
    assert "'gatway' (choose from 'gateway', 'release', 'all-in-one'" in capsys.readouterr().err
