"""docs/volumes.md names every step, parameter, default and window as the code has them."""

import json
import re
from dataclasses import fields
from pathlib import Path

from wetread_preprocess.volumes.recipe import Buckets, SeriesRules, VolumeRecipe
from wetread_preprocess.volumes.steps import STEPS
from wetread_preprocess.volumes.window import WINDOWS_HU

TEXT = (Path(__file__).parents[2] / "docs" / "volumes.md").read_text()


def table(name):
    """Rows of the table between the comment that names it and `end`, without its head."""
    (part,) = re.findall(rf"<!-- {name}:.*?-->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in part.splitlines()[2:]]


def test_the_table_of_steps_is_that_of_the_dataclasses():
    told, step = [], ""
    for name, parameter, default, meaning in table("steps"):
        step = name or step
        told.append((step, parameter, json.loads(default)))
        assert meaning, (step, parameter)
    known = [
        (step, field.name, list(field.default) if isinstance(field.default, tuple) else field.default)
        for step, kind in STEPS.items()
        for field in fields(kind)
    ]
    assert sorted(told, key=str) == sorted(known, key=str)


def test_the_table_of_windows_is_that_of_the_code():
    told = {name: tuple(map(float, numbers)) for name, *numbers in table("windows")}
    assert told == {n: (level, width, level - width / 2, level + width / 2) for n, (level, width) in WINDOWS_HU.items()}


def test_the_rules_and_their_values_are_those_of_the_recipe():
    for rules in (SeriesRules, Buckets):
        for field in fields(rules):
            assert f"`{field.name}` {field.default}" in TEXT, field.name
    for field in fields(VolumeRecipe):
        assert f"| `{field.name}` |" in TEXT, field.name
    assert f"| `most_voxels` | {VolumeRecipe.most_voxels}:" in TEXT
