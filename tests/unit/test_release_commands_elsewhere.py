"""The commands with the rollouts in a real etcd and the releases at an fsspec address."""

import json

import pytest
from draft_cases import PIPELINE, write_draft
from etcd_site import EtcdSite
from rollout_stand_in import StandInAgent
from typer.testing import CliRunner
from wetread_client.rollout import open_store
from wetread_release.cli import app


@pytest.fixture
def addresses(tmp_path):
    site = EtcdSite(tmp_path)
    site.start()
    try:
        yield f"memory://{tmp_path.name}/releases", f"etcd://127.0.0.1:{site.port}/hospital"
    finally:
        site.stop()


@pytest.mark.slow
def test_a_release_is_published_promoted_and_rolled_back_with_stores_elsewhere(tmp_path, addresses):
    registry, rollouts = addresses

    def call(command, *words):
        options = ["--state-dir", tmp_path / "state", "--registry", registry, "--rollouts", rollouts]
        options += [] if command == "list" else ["--timeout", "120", "--by", "ada"]
        result = CliRunner().invoke(app, [command, *map(str, [*words, *options])])
        assert result.exit_code == 0, result.output
        return result.stdout

    approved = ("--approved-by", "grace", "--reason", "better")
    with StandInAgent(open_store(rollouts), PIPELINE):
        for number in (1, 2):
            draft = write_draft(tmp_path / f"draft{number}", weights=f"weights {number}")
            assert call("publish", draft, "--force", "a test").strip() == str(number)
            call("promote", PIPELINE, *approved)
        call("rollback", PIPELINE)
        (view,) = json.loads(call("list", PIPELINE, "--json"))["pipelines"]
    assert view["rollout"]["stable"] == 1
    assert {row["release"]: row["arms"] for row in view["releases"]} == {1: ["stable"], 2: ["previous"]}
    assert [agent["stable"] for agent in view["agents"]] == [1]
    assert not (tmp_path / "state" / "rollout").exists()
    assert not (tmp_path / "state" / "releases").exists()
