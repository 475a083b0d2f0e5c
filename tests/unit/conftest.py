"""The recipe that is shipped, and one preprocessor for all unit tests."""

import dataclasses
from collections.abc import Iterator

import pytest
from film_reference import RECIPE_FOLDER
from waiting import WAIT_S
from wetread_preprocess import DecodeLimits, FilmOptions, FilmPreprocessor, Recipe


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe.load(RECIPE_FOLDER)


@pytest.fixture(scope="session")
def preprocessor(recipe) -> Iterator[FilmPreprocessor]:
    """Reads what the shipped recipe says, however long a busy machine decodes."""
    with FilmPreprocessor(dataclasses.replace(recipe, limits=DecodeLimits(timeout_s=WAIT_S))) as made:
        yield made


@pytest.fixture(scope="session")
def slice_preprocessor(recipe) -> Iterator[FilmPreprocessor]:
    """Reads CT and MR slices as if they were films."""
    limits = DecodeLimits(timeout_s=WAIT_S)
    more = recipe.modalities | {"CT", "MR"}
    with FilmPreprocessor(dataclasses.replace(recipe, modalities=more, limits=limits)) as made:
        yield made


@pytest.fixture(scope="session")
def any_part() -> FilmOptions:
    return FilmOptions(any_body_part=True)
