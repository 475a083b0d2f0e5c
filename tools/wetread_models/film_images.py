"""Films as the network sees them, read by the recipe that serves them: data to calibrate an INT8 model with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from wetread_preprocess import FilmOptions, FilmPreprocessor, ImageError

from wetread_models.data import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

_DECLARED = FilmOptions(declared_film=True, any_body_part=True)


def film_images(
    recipe_folder: Path, films: Sequence[Callable[[], bytes]], done: Callable[[int], None] = lambda _films: None
) -> npt.NDArray[np.float32]:
    """Read DICOM files into IMAGE [n, ...]; `films` give the bytes, `done` gets the number read.

    Raises:
        DataError: a film cannot be read; the message says which of them, by its place.
    """
    images = []
    with FilmPreprocessor.load(recipe_folder) as preprocessor:
        for index, load in enumerate(films):
            try:
                images.append(preprocessor.read(load(), _DECLARED).image)
            except ImageError as error:
                raise DataError(f"film {index + 1} of {len(films)} is not for this pipeline: {error.wire}") from error
            done(index + 1)
    if not images:
        raise DataError("there is no film to calibrate with")
    return np.stack([image.reshape(image.shape[-3:]) for image in images])
