"""Golden films: synthetic ones whose answers the gate records, by which an agent knows the release that it serves."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

from wetread_client.errors import WetreadError

from wetread_release.digest import file_digest
from wetread_release.errors import Absent, ServeFailed
from wetread_release.manifest import Golden, GoldenRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from wetread_client.client import Client

SEEDS = (8, 21)
"""Of each label of the film model; the least certain ones of the shipped classifier among the first seeds."""
SIDE = 512
"""Pixels; what a film model draws is not sharper."""
_NO_MODALITY = "OT"
"""Read by every film pipeline when it is declared a film, whichever modalities that pipeline is for."""


def film_model(root: Path) -> Path:
    """Give the file of the film model in a checkout or image; Absent where it ships none."""
    found = sorted((root / "model_repository").glob("*/synthetic_films.npz"))
    if not found:
        raise Absent(f"{root}/model_repository holds no synthetic_films.npz: synthetic films cannot be drawn")
    return found[0]


def golden_seeds() -> tuple[tuple[str, int], ...]:
    """Give (label, seed) of each golden film: all labels of the film model, each with all SEEDS."""
    from wetread_models.synthetic import LABELS  # noqa: PLC0415 - brings OpenCV and pydicom

    return tuple((label, seed) for label in LABELS for seed in SEEDS)


def golden_films(root: Path) -> list[bytes]:
    """Draw the golden films that a gate records today; see `draw_films`."""
    return draw_films(root, golden_seeds())


def draw_films(root: Path, films: Iterable[tuple[str, int]], side: int = SIDE) -> list[bytes]:
    """Draw films (label, seed) of `side` x `side` pixels with the film model of `root`, as DICOM files.

    To be sent with the request parameters declared_film and any_body_part: they have no modality of their own.

    Raises:
        Absent: there is no film model, or it has no such label.
    """
    import pydicom  # noqa: PLC0415 - heavy, as the next
    from wetread_models.synthetic import LABELS, FilmModel  # noqa: PLC0415

    model = FilmModel.load(film_model(root))
    known = {str(label): label for label in LABELS}
    drawn = []
    for label, seed in films:
        if label not in known:
            raise Absent(f"{film_model(root)} draws no film of {label}, only {', '.join(known)}: update wetread")
        dataset = pydicom.dcmread(io.BytesIO(model.dicom(seed, known[label], side, side)))
        dataset.Modality = _NO_MODALITY
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        drawn.append(buffer.getvalue())
    return drawn


def golden_of(root: Path, records: Iterable[GoldenRecord]) -> Golden:
    """Put the answers to `golden_films` together with what draws them."""
    return Golden(golden_seeds(), file_digest(film_model(root)), tuple(records))


def ask(client: Client, films: Sequence[bytes], engine: str, device: str, deadline_s: float = 60.0) -> GoldenRecord:
    """Let a served pipeline read golden films; ServeFailed, with its words, when it does not read one."""
    read = partial(client.read, declared_film=True, any_body_part=True, heatmap=False, deadline_s=deadline_s)
    readings = []
    for number, film in enumerate(films, 1):
        try:
            readings.append(read(film))
        except WetreadError as error:
            raise ServeFailed(f"golden film {number} is not read: {error}") from error
    return GoldenRecord(
        engine,
        device,
        tuple(tuple(finding.probability for finding in reading.findings) for reading in readings),
        tuple(tuple(finding.positive for finding in reading.findings) for reading in readings),
    )
