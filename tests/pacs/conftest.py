"""What the tests with a PACS share: one Orthanc, one whole hospital, and one server that reads series, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kept_alive import KeptAlive
from sent_films import INTAKE
from volume_release import CHECKOUT, SEGMENTER, Filling, VolumeSite
from wetread_bench.hospital import GatewayPlan, Hospital
from wetread_bench.orthanc import Orthanc, missing
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_models.volume_networks import level_segmenter

if TYPE_CHECKING:
    from collections.abc import Iterator

# A DX film is read at once; CR films are series here, whole after a short silence.
COMPLETENESS = 'single_image_modalities = ["DX"]\nquiet_confirmed_s = 0.3\nquiet_s = 1.5'
OTHER_FILMS = """
[[rule]]
name = "other films"
pipeline = "chest_xray"
match.modality = ["DX"]
destinations = ["pacs"]
any_body_part = true
"""


@pytest.fixture(scope="session")
def orthanc() -> Iterator[Orthanc]:
    """A running Orthanc without TLS, shared: tests look for their own UIDs, and `set_modality` names their AE."""
    if absent := missing():
        pytest.skip(absent)
    with Orthanc() as running:
        yield running


@pytest.fixture(scope="session")
def triton(server: EmbeddedTriton) -> EmbeddedTriton:
    """The running Triton that every hospital reads with."""
    return server


@pytest.fixture(scope="package")
def hospital(triton: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """PACS, Triton and gateway, shared: tests look for their own studies. `run_lua` tells its PACS what else to do."""
    plan = GatewayPlan(sections=(INTAKE, ("completeness", COMPLETENESS)))
    options: dict[str, object] = {"ExecuteLuaEnabled": True}
    with Hospital(tmp_path_factory.mktemp("hospital"), plan, triton=triton, options=options) as running:
        yield running


@pytest.fixture(scope="session")
def series_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptAlive]:
    """A running Triton that segments MR series and reads films."""
    site = VolumeSite(tmp_path_factory.mktemp("site"), [Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter())])
    site.ship_as_checkout("chest_xray")
    with site.served() as running:
        yield running


@pytest.fixture(scope="session")
def release_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptAlive]:
    """A running Triton with its release agent: what is published to `config.state` comes and goes in it."""
    state = tmp_path_factory.mktemp("releases")
    config = ServerConfig.on_free_ports(root=CHECKOUT, store=state / "served", state=state, exit_timeout_s=1.0)
    with KeptAlive(config) as running:
        yield running


@pytest.fixture(scope="package")
def release_hospital(release_server: KeptAlive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital that goes by the releases' rollouts; films of knees have a pipeline of their own."""
    rollouts = f'rollouts = "{release_server.config.state / "rollout"}"'
    plan = GatewayPlan(
        pipeline="knee",
        match='body_part = ["KNEE"]',
        any_body_part=False,
        sections=(INTAKE, ("triton", rollouts)),
        extra=OTHER_FILMS,
    )
    with Hospital(tmp_path_factory.mktemp("hospital"), plan, triton=release_server) as running:
        yield running
