"""A film on disk to a NIfTI-1 file of the tensor that a film recipe makes of it."""

import json
from collections.abc import Sequence

import numpy as np
import typer

from wetread_preprocess.command_outputs import Outputs, write_text, write_volume
from wetread_preprocess.command_screen import Screen, with_names
from wetread_preprocess.command_volume import Wish
from wetread_preprocess.errors import ImageError, UnsupportedImage
from wetread_preprocess.film import FilmPreprocessor
from wetread_preprocess.gate import FilmOptions
from wetread_preprocess.recipe import Recipe
from wetread_preprocess.volumes.on_disk import SeriesOnDisk
from wetread_preprocess.volumes.plain_recipes import Changes
from wetread_preprocess.volumes.report import as_text, describe_film


def film_to_nifti(chosen: Sequence[SeriesOnDisk], wish: Wish, outputs: Outputs, screen: Screen) -> None:
    """Write IMAGE of the one film, columns first: [columns, rows, channels], without a place in the patient.

    Raises:
        ImageError: it cannot be read, or there are several.
        typer.BadParameter: something is wished for that is a volume's.
    """
    assert isinstance(wish.recipe, Recipe)
    if wish.changes != Changes() or wish.source_spacing or outputs.mask is not None:
        raise typer.BadParameter("a film's recipe takes no changes, and a film has no mask: they are a volume's")
    files = [file for one in chosen for file in one.files]
    if len(files) > 1:
        raise UnsupportedImage(f"there are {len(files)} films; name one, or one series with --series")
    with FilmPreprocessor(wish.recipe) as preprocessor:
        try:
            film = preprocessor.read(np.fromfile(files[0], np.uint8), FilmOptions(any_body_part=wish.any_body_part))
        except ImageError as error:
            raise type(error)(with_names(str(error), files)) from error
    image = film.image if wish.recipe.layout == "NCHW" else film.image.transpose(2, 0, 1)
    source = json.loads(film.geometry)
    down, across = source["pixel_spacing_mm"] or (1.0, 1.0)
    rows, columns = wish.recipe.size
    affine = np.diag([across * source["columns"] / columns, down * source["rows"] / rows, 1.0, 1.0])
    write_volume(outputs.volume, image.transpose(2, 1, 0), affine, placed=False)
    document = describe_film(film.geometry, files[0], identifiers=wish.identifiers)
    write_text(outputs.document, as_text(document))
    for warning in document["warnings"]:
        screen.warn(warning)
    screen.result(f"{outputs.volume}: {columns} x {rows} pixels, from 1 image; {outputs.document}")
