"""The recipe that is shipped, and one preprocessor for all unit tests."""

import dataclasses
from collections.abc import Iterator

import pytest
from film_reference import RECIPE_FOLDER
from wetread_preprocess import FilmOptions, FilmPreprocessor, Recipe


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe.load(RECIPE_FOLDER)


@pytest.fixture(scope="session")
def preprocessor() -> Iterator[FilmPreprocessor]:
    with FilmPreprocessor.load(RECIPE_FOLDER) as made:
        yield made


@pytest.fixture(scope="session")
def slice_preprocessor(recipe) -> Iterator[FilmPreprocessor]:
    """Reads CT and MR slices as if they were films."""
    with FilmPreprocessor(dataclasses.replace(recipe, modalities=recipe.modalities | {"CT", "MR"})) as made:
        yield made


@pytest.fixture(scope="session")
def any_part() -> FilmOptions:
    return FilmOptions(any_body_part=True)
