"""Whether a series is for the pipeline, by its modality and its body part."""

from wetread_preprocess.attributes import attribute_name
from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.stack import Series

_SHOWN = 16
"""Characters of a body part that are told: the attribute's own length (PS3.5 6.2, CS)."""


def admit(series: Series, recipe: VolumeRecipe, *, any_body_part: bool) -> tuple[str, ...]:
    """Refuse a series that the pipeline does not read; give warnings for one that it reads with doubt.

    Raises:
        UnsupportedImage: its modality, or a body part that is plainly another one.
    """
    if series.modality not in recipe.modalities:
        raise UnsupportedImage(
            f"{attribute_name('Modality')} is {series.modality}; this pipeline reads "
            f"{', '.join(sorted(recipe.modalities))}"
        )
    return () if any_body_part else _body_part(series.body_part, recipe)


def _body_part(part: str, recipe: VolumeRecipe) -> tuple[str, ...]:
    name = attribute_name("BodyPartExamined")
    if not part:
        return (f"{name} is absent",)
    if any(welcome in part for welcome in recipe.body_parts):
        return ()
    if part.replace(" ", "").replace("_", "") in recipe.other_body_parts:
        raise UnsupportedImage(
            f"{name} is {part[:_SHOWN]}; if that is wrong, send the request parameter any_body_part "
            "(wetread read --any-body-part)"
        )
    return (f"{name} is {part[:_SHOWN]}, which this pipeline does not know",)
