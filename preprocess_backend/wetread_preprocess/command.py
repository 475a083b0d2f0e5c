"""`wetread preprocess`: a series in, a NIfTI-1 volume and a JSON of what was done out."""

from pathlib import Path
from typing import Annotated

import typer

from wetread_preprocess.command_film import film_to_nifti
from wetread_preprocess.command_outputs import Outputs
from wetread_preprocess.command_screen import Screen
from wetread_preprocess.command_volume import Wish, candidates, recipe_at, series_to_nifti
from wetread_preprocess.errors import ImageError
from wetread_preprocess.recipe import Recipe
from wetread_preprocess.volumes.on_disk import count_files, find_series
from wetread_preprocess.volumes.plain_recipes import Changes, parse_spacing
from wetread_preprocess.volumes.steps import DenoiseMethod, Interpolation, NormaliseMethod

FAILED = 1


def preprocess(
    paths: Annotated[list[Path], typer.Argument(help="Files, folders or DICOMDIRs; several series may be mixed.")],
    *,
    out: Annotated[Path | None, typer.Option(help="The volume: NAME.nii.gz or NAME.nii; NAME.json beside it.")] = None,
    list_series: Annotated[bool, typer.Option("--list", help="Show what series there are, and end.")] = False,
    series: Annotated[str, typer.Option(help="Which one: its number in --list, or its UID.")] = "",
    recipe: Annotated[
        str, typer.Option(help="ct, mr, a recipe.json, or a version folder; else by the series' modality.")
    ] = "",
    spacing: Annotated[str, typer.Option(help="In mm, along the orientation's axes: 1, or 0.8,0.8,2, or source.")] = "",
    no_resample: Annotated[bool, typer.Option("--no-resample", help="The same as --spacing source.")] = False,
    orientation: Annotated[str, typer.Option(help="Where the axes lead, as RAS or SPL; else as the recipe.")] = "",
    interpolation: Annotated[Interpolation | None, typer.Option(help="Else as the recipe.")] = None,
    anti_alias: Annotated[bool | None, typer.Option(help="Blur where it is made coarser; else as the recipe.")] = None,
    window: Annotated[str | None, typer.Option(help="Of a CT, by name, as lung: clipped and scaled to 0..1.")] = None,
    normalise: Annotated[NormaliseMethod | None, typer.Option(help="One scale for intensities without unit.")] = None,
    bias_field: Annotated[bool, typer.Option("--bias-field", help="Of an MR: N4 takes the coil's unevenness out.")] = (
        False
    ),
    denoise: Annotated[DenoiseMethod | None, typer.Option(help="Before resampling; else as the recipe.")] = None,
    pad: Annotated[bool, typer.Option("--pad", help="Up to the recipe's bucket, as a model gets it.")] = False,
    int16: Annotated[bool, typer.Option("--int16", help="Whole numbers, as of HU: a third of the size.")] = False,
    mask: Annotated[Path | None, typer.Option(help="Also write where voxels come from a slice, uint8.")] = None,
    any_body_part: Annotated[bool, typer.Option("--any-body-part", help="Take whatever part the files name.")] = False,
    identifiers: Annotated[bool, typer.Option("--identifiers", help="UIDs and file names in the JSON.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the kernels; else one a core, at most 8.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
) -> None:
    """Make a NIfTI-1 volume of a CT or MR series, or a tensor of a film. Exits with 0 when it is written, 1 when
    nothing can be read, 2 for a wrong call. Not for clinical use."""
    screen = Screen(quiet)
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"no such file or folder: {path}", param_hint="PATH")
    try:
        changes = Changes(
            spacing_mm=_spacing(spacing, no_resample),
            orientation=orientation or None,
            interpolation=interpolation,
            anti_alias=anti_alias,
            window=window,
            normalise=normalise,
            denoise=denoise,
            bias_field=bias_field,
            pad=pad,
        )
        outputs = None if list_series else _outputs(out, mask, force)
        wish = Wish(
            changes,
            recipe_at(recipe) if recipe else None,
            series,
            source_spacing=no_resample or spacing == "source",
            any_body_part=any_body_part,
            identifiers=identifiers,
            int16=int16,
            threads=threads,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        with screen.counting("looking", count_files(paths)) as step:
            found = find_series(paths, step)
        if outputs is None:
            screen.show_series(found)
            raise typer.Exit(0 if found.series else FAILED)
        chosen = candidates(found, wish)
        if isinstance(wish.recipe, Recipe):
            film_to_nifti(chosen, wish, outputs, screen)
        else:
            series_to_nifti(found, chosen, wish, outputs, screen)
    except ImageError as error:
        screen.fail(str(error))
        raise typer.Exit(FAILED) from error
    except OSError as error:
        screen.fail(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")
        raise typer.Exit(FAILED) from error


def _outputs(out: Path | None, mask: Path | None, force: bool) -> Outputs:
    if out is None:
        raise ValueError("--out NAME.nii.gz says where the volume goes; --list shows what there is")
    return Outputs.at(out, mask, overwrite=force)


def _spacing(text: str, no_resample: bool) -> tuple[float, float, float] | None:
    if no_resample and text not in ("", "source"):
        raise ValueError(f"--no-resample keeps the source's spacing and --spacing asks for {text}: name one of them")
    return parse_spacing(text) if text else None
