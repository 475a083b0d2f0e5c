"""CT windows by name, or by level and width."""

import json

import pytest
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.steps import Window
from wetread_preprocess.volumes.window import WINDOWS_HU, window_limits


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("lung", -1350, 150), ("mediastinum", -125, 225), ("bone", -500, 1300), ("brain", 0, 80), ("stroke", 20, 60)],
)
def test_a_named_window_reaches_half_its_width_to_either_side_of_its_level(name, low, high):
    assert window_limits(Window(name)) == (low, high)


def test_level_and_width_make_a_window_without_a_name():
    assert window_limits(Window(level=40.0, width=400.0)) == (-160.0, 240.0)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'lungs'.*" + ".*".join(WINDOWS_HU)):
        window_limits(Window("lungs"))


@pytest.mark.parametrize(
    "step",
    [Window(), Window(level=40.0), Window(width=400.0), Window("lung", level=40.0, width=400.0)],
)
def test_a_window_is_a_name_or_else_level_and_width(step):
    with pytest.raises(ValueError, match=r"one or the other|a name, or a level and a width"):
        window_limits(step)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_window_without_width_is_refused(width):
    with pytest.raises(ValueError, match="above 0 HU"):
        window_limits(Window(level=0.0, width=width))


@pytest.mark.parametrize("name", WINDOWS_HU)
def test_every_named_window_holds_some_ct_numbers(name):
    low, high = window_limits(Window(name))
    assert -3000 < low < high < 4000


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"step": "window", "name": "lungs"}, "no window is called 'lungs'"),
        ({"step": "normalise", "method": "range", "percentiles": [99, 1]}, "rising numbers"),
        ({"step": "bias_field", "shrink": 0}, "shrink is 1 or more"),
        ({"step": "bias_field", "iterations": []}, "iterations are 1 or more"),
        ({"step": "bias_field", "control_points": 3}, "control_points is 4 or more"),
    ],
)
def test_a_recipe_with_a_step_that_cannot_be_done_does_not_load(tmp_path, step, says):
    document = {
        "schema": 1, "kind": "volume", "orientation": "SPL", "steps": [{"step": "resample"}, step],
        "modalities": ["CT"], "body_parts": ["CHEST"], "other_body_parts": [],
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=says):
        VolumeRecipe.load(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("patch", 2), ("search", 0), ("strength", 0.0), ("planes", 4)])
def test_a_recipe_whose_denoising_cannot_be_done_does_not_load(tmp_path, key, value):
    document = {
        "schema": 1, "kind": "volume", "orientation": "SPL",
        "steps": [{"step": "denoise", key: value}, {"step": "resample"}],
        "modalities": ["CT"], "body_parts": ["CHEST"], "other_body_parts": [],
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"denoise.*{key}"):
        VolumeRecipe.load(tmp_path)
