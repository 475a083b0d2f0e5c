"""Golden films: what a release answers here must be what the gate's server answered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wetread_client import Client, Retry, WetreadError

from wetread_release.agent.golden_shelf import GoldenShelf
from wetread_release.digest import file_digest
from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_client import Reading

    from wetread_release.manifest import Golden, GoldenRecord, Manifest

LOG = logging.getLogger(__name__)
_TIMEOUT_S = 60.0
_STRANGE_TOLERANCE = 0.05
"""On a probability, against a record of another engine or device: rounding differs, a decision must not."""


class GoldenCheck:
    """Sends a release's golden films to an ensemble of one server.

    `root` holds the film model that draws them, `shelf` is the folder where they are kept.
    """

    def __init__(self, url: str, root: Path, shelf: Path, device: str) -> None:
        self._url, self._root, self._device = url, root, device
        self._shelf = GoldenShelf(root, shelf)

    def __call__(self, ensemble: str, manifest: Manifest) -> None:
        """Raise ServeFailed where the ensemble does not answer as `manifest` says; a release without records passes."""
        golden = manifest.golden
        if golden is None or not golden.records:
            LOG.warning("%s has no golden films: only its load was checked", manifest.name)
            return
        if golden.film_model != self._film_model():
            LOG.warning("%s has golden films that another film model draws: only its load was checked", manifest.name)
            return
        self._compare(manifest, golden, self.readings(ensemble, golden))

    def readings(self, ensemble: str, golden: Golden) -> list[Reading]:
        """Return what the ensemble answers to the golden films; ServeFailed where it does not read one."""
        films = self._shelf.films(golden)
        with Client(self._url, ensemble, timeout_s=_TIMEOUT_S, retry=Retry(times=0)) as client:
            return [self._read(client, film, number) for number, film in enumerate(films, 1)]

    def _film_model(self) -> str:
        from wetread_release.golden import film_model  # noqa: PLC0415 -- most starts do without

        return file_digest(film_model(self._root))

    def _read(self, client: Client, film: bytes, number: int) -> Reading:
        try:
            return client.read(film, heatmap=False, any_body_part=True, declared_film=True)
        except WetreadError as error:
            raise ServeFailed(f"golden film {number} was not read: {error}") from error

    def _compare(self, manifest: Manifest, golden: Golden, readings: Sequence[Reading]) -> None:
        record, tolerance = self._record(manifest, golden)
        for number, (reading, probabilities, positive) in enumerate(
            zip(readings, record.probabilities, record.positive, strict=True), 1
        ):
            if reading.release != manifest.release:
                raise ServeFailed(f"golden film {number} was answered by release {reading.release}")
            if len(reading.findings) != len(probabilities):
                raise ServeFailed(f"golden film {number}: {len(reading.findings)} findings, not {len(probabilities)}")
            for finding, probability, present in zip(reading.findings, probabilities, positive, strict=True):
                away = abs(finding.probability - probability)
                if not away <= tolerance or (finding.positive != present and away > golden.tolerance):
                    raise ServeFailed(
                        f"golden film {number}: finding {finding.label} has probability {finding.probability:.4f}, the "
                        f"gate on {record.engine}, {record.device} had {probability:.4f} (tolerance {tolerance})"
                    )

    def _record(self, manifest: Manifest, golden: Golden) -> tuple[GoldenRecord, float]:
        own = [record for record in golden.records if record.device == self._device]
        if own:
            return own[0], golden.tolerance
        record = golden.records[0]
        LOG.warning("%s has no record of the gate on %s: compared with %s", manifest.name, self._device, record.device)
        return record, _STRANGE_TOLERANCE
