"""The fake Triton of the release agent's cases behaves as the real server was seen to."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from test_release_agent_cases import (
    CLASSIFIER,
    SHIPPED,
    FakeSite,
    Publish,
    Serves,
    _watchful_stores,  # noqa: F401 -- a fixture
    served_by,  # noqa: F401 -- a fixture
)
from tiny_release import PIPELINE
from wetread_release.agent.served import write_text
from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from collections.abc import Callable


class TestFakeTriton:
    """It behaves as the real server was seen to."""

    @pytest.fixture
    def site(self, served_by: Callable[..., FakeSite]) -> FakeSite:  # noqa: F811 -- that fixture
        site = served_by()
        Publish(1.0)(site)
        return site

    def change(self, site: FakeSite, old: str, new: str) -> None:
        config = site.version(1).with_name("config.pbtxt")
        assert old in config.read_text()
        write_text(config, config.read_text().replace(old, new))  # in one rename: the agent may be reading

    def test_a_version_that_does_not_load_leaves_all_as_it_was(self, site: FakeSite) -> None:
        triton = site.server.triton
        shutil.copytree(site.version(2), site.version(3))
        (site.version(3) / "model.onnx").unlink()
        self.change(site, "[ 1, 2 ]", "[ 2, 3 ]")
        with pytest.raises(ServeFailed, match=f"{CLASSIFIER} does not load: .*version 3"):
            triton.load(CLASSIFIER)
        assert [triton.is_ready(CLASSIFIER, version) for version in (1, 2, 3)] == [True, True, False]

    def test_another_version_policy_loads_nothing_anew_and_any_other_edit_everything(self, site: FakeSite) -> None:
        triton = site.server.triton
        self.change(site, "count: 1", "count: 2")
        triton.load(CLASSIFIER)
        assert triton.loads[CLASSIFIER, 1] == 1
        self.change(site, "dynamic_batching { }", "")
        triton.load(CLASSIFIER)
        assert [triton.loads[CLASSIFIER, version] for version in (1, 2)] == [2, 2]

    @pytest.mark.slow
    def test_an_ensemble_whose_pin_goes_away_is_down_though_the_load_succeeds(self, site: FakeSite) -> None:
        triton = site.server.triton
        self.change(site, "version_policy { specific { versions: [ 1, 2 ] } }", "")
        triton.load(CLASSIFIER)
        assert not triton.is_ready(PIPELINE, 1)
        assert triton.outages == [PIPELINE]
        triton.outages.clear()

    @pytest.mark.slow
    def test_a_smaller_batch_than_the_ensembles_takes_it_down(self, site: FakeSite) -> None:
        triton = site.server.triton
        self.change(site, "max_batch_size: 8", "max_batch_size: 4")
        triton.load(CLASSIFIER)
        assert triton.outages == [PIPELINE, f"{PIPELINE}_candidate"]
        triton.outages.clear()

    def test_an_ensemble_does_not_load_without_what_it_pins(self, site: FakeSite) -> None:
        triton = site.server.triton
        config = site.server.served.ensembles / PIPELINE / "config.pbtxt"
        write_text(config, config.read_text().replace("model_version: 1", "model_version: 7"))
        with pytest.raises(ServeFailed, match=r"depends on .* whose required version 7 is not loaded"):
            triton.load(PIPELINE)
        assert triton.is_ready(PIPELINE, 1)

    @pytest.mark.slow
    def test_what_is_loaded_answers_on_when_its_files_change(self, site: FakeSite) -> None:
        (site.version(1) / "model.onnx").write_bytes(b"damaged")
        Serves(SHIPPED, candidate=(2, 1.0))(site)
