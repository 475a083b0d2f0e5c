"""`wetread preprocess`: which series is taken, what is written, and how it fails."""

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from films import film, radiograph, to_bytes
from series_files import STUDY_UID, series_files
from wetread_preprocess.command import preprocess
from wetread_preprocess.volumes.on_disk import find_series
from wetread_preprocess.volumes.plain_recipes import PLAIN_RECIPES
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.report import recipe_document

FILM = to_bytes(film(radiograph(300, 260)))
FILM_RECIPE = Path(__file__).parents[2] / "model_repository" / "chest_xray_preprocess" / "1"


def run(*arguments: object) -> int:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(preprocess)
    with pytest.raises(SystemExit) as ended:
        app(args=[str(argument) for argument in arguments], prog_name="wetread preprocess")
    return int(ended.value.code or 0)


def said(capsys) -> str:
    """What was printed, without the frames and line breaks of a message box."""
    out, err = capsys.readouterr()
    return re.sub(r"[\s│╭╮╰╯─]+", " ", out + err)


def ramp(slices=9, rows=10, columns=12) -> np.ndarray:
    """A gradient along each axis that tells them apart: 100 a slice, 10 a row, 1 a column."""
    k, r, c = np.indices((slices, rows, columns))
    return (100 * k + 10 * r + c).astype(np.int16)


def lay(folder: Path, files: list[bytes], stem: str = "image") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        (folder / f"{stem}{number:03}.dcm").write_bytes(file)
    return folder


@pytest.fixture
def ct(tmp_path):
    """9 slices of 10 x 12 pixels of 2 x 1 mm, 3 mm apart, from LPS (10, 20, 30)."""
    files = series_files(ramp(), pixel_spacing_mm=(2.0, 1.0), step_mm=3.0, first_mm=(10, 20, 30), intercept=-5.0)
    return lay(tmp_path / "ct", files)


def loaded(path):
    image = nibabel.load(path)
    document = json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text())
    return image, np.asanyarray(image.dataobj), document


def test_a_series_becomes_a_volume_of_1_mm_with_a_json_beside_it(ct, tmp_path, capsys):
    out = tmp_path / "volume.nii.gz"
    assert run(ct, "--out", out) == 0
    image, values, document = loaded(out)
    assert values.dtype == np.float32
    assert values.shape == (12, 20, 27)
    assert "".join(nibabel.aff2axcodes(image.affine)) == "RAS"
    np.testing.assert_allclose(image.affine, document["grid"]["affine_ras"], atol=1e-5)
    assert [step["step"] for step in document["recipe"]["steps"]] == ["hounsfield", "resample"]
    assert document["source"]["slices"] == document["files"] == 9
    assert {"files", "series", "resample", "write"} <= document["timings_ms"].keys()
    assert document["made_by"].startswith("wetread ")
    assert str(out) in said(capsys)


def test_at_the_source_spacing_every_voxel_is_a_pixel_at_its_own_place(ct, tmp_path):
    out = tmp_path / "volume.nii.gz"
    assert run(ct, "--out", out, "--no-resample") == 0
    image, values, _ = loaded(out)
    # L-R and P-A are turned, as RAS wants it: index 0 is the rightmost column's opposite, the hindmost row.
    np.testing.assert_allclose(values, ramp().transpose(2, 1, 0)[::-1, ::-1] - 5.0, atol=1e-3)
    np.testing.assert_allclose(image.affine @ [11, 9, 0, 1], [-10, -20, 30, 1], atol=1e-4)


def test_orientation_and_spacing_go_by_the_axes_that_are_asked_for(ct, tmp_path):
    out = tmp_path / "volume.nii.gz"
    assert run(ct, "--out", out, "--orientation", "SPL", "--spacing", "3,2,1") == 0
    image, values, _ = loaded(out)
    assert "".join(nibabel.aff2axcodes(image.affine)) == "SPL"
    np.testing.assert_allclose(values, ramp() - 5.0, atol=1e-3)


def test_the_json_holds_no_identifier_and_no_name_unless_asked(ct, tmp_path):
    assert run(ct, "--out", tmp_path / "a.nii.gz") == 0
    assert run(ct, "--out", tmp_path / "b.nii.gz", "--identifiers") == 0
    without, with_them = ((tmp_path / name).read_text() for name in ("a.json", "b.json"))
    root = STUDY_UID.rsplit(".", 2)[0]
    assert root not in without
    assert "TEST" not in without + with_them
    assert ".dcm" not in without
    assert root in with_them
    assert "image000.dcm" in with_them


@pytest.mark.slow
def test_of_mixed_series_the_acquired_one_with_the_most_images_is_taken(ct, tmp_path):
    lay(ct, series_files(ramp(12), attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}), "a")
    lay(ct, series_files(ramp(20), attributes={"ImageType": ["DERIVED", "SECONDARY", "MPR"]}), "b")
    lay(ct, series_files(ramp(8)), "c")
    out = tmp_path / "volume.nii.gz"
    assert run(ct, "--out", out) == 0
    *_, document = loaded(out)
    assert document["source"]["slices"] == 9
    assert sorted(one["images"] for one in document["other_series"]) == [8, 12, 20]


def test_a_series_that_cannot_be_read_gives_way_to_the_next_and_says_why(ct, tmp_path, capsys):
    broken = series_files(ramp(10), attributes={"ImagePositionPatient": None})
    lay(ct, broken, "broken")
    out = tmp_path / "volume.nii.gz"
    assert run(ct, "--out", out) == 0
    *_, document = loaded(out)
    assert document["source"]["slices"] == 9
    assert "(0020,0032)" in document["other_series"][0]["why"]
    assert "series 1 (CT, 10 images) is not read" in said(capsys)


def test_a_series_is_chosen_by_its_number_in_the_list_or_its_uid(ct, tmp_path, capsys):
    lay(ct, series_files(ramp(8), series_uid="1.2.3.8"), "c")
    assert run(ct, "--list") == 0
    table = said(capsys)
    assert table.index("1: CT, CHEST, 9 images, 10 x 12") < table.index("2: CT, CHEST, 8 images, 10 x 12")
    assert "1.2.3.8" in table
    for name in ("2", "1.2.3.8"):
        out = tmp_path / "volume.nii.gz"
        assert run(ct, "--out", out, "--series", name, "--force") == 0
        assert loaded(out)[2]["source"]["slices"] == 8
    assert run(ct, "--out", out, "--series", "7", "--force") == 2
    assert "no series 7" in said(capsys)


def test_an_mr_series_gets_its_own_plain_recipe(tmp_path):
    folder = lay(tmp_path / "mr", series_files(ramp(), modality="MR", body_part="BRAIN"))
    out = tmp_path / "volume.nii.gz"
    assert run(folder, "--out", out) == 0
    assert [step["step"] for step in loaded(out)[2]["recipe"]["steps"]] == ["resample"]


def test_options_change_the_steps_and_stand_in_the_json(ct, tmp_path):
    out = tmp_path / "volume.nii.gz"
    options = (
        "--window",
        "lung",
        "--interpolation",
        "bspline",
        "--anti-alias",
        "--spacing",
        "4",
        "--denoise",
        "wavelet",
    )
    assert run(ct, "--out", out, *options, "--threads", "1") == 0
    _, values, document = loaded(out)
    steps = {step["step"]: step for step in document["recipe"]["steps"]}
    assert list(steps) == ["hounsfield", "denoise", "resample", "window"]
    assert steps["window"]["name"] == "lung"
    assert (steps["resample"]["interpolation"], steps["resample"]["anti_alias"]) == ("bspline", True)
    assert 0 <= values.min() <= values.max() <= 1


def test_a_pipelines_own_recipe_is_read_from_its_file_or_folder(ct, tmp_path):
    recipe = {
        "schema": 1, "kind": "volume", "orientation": "LPS", "modalities": ["CT"], "body_parts": ["CHEST"],
        "other_body_parts": ["HEAD"], "steps": [{"step": "resample", "spacing_mm": 2}],
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    for number, name in enumerate((tmp_path / "recipe.json", tmp_path)):
        out = tmp_path / f"{number}.nii.gz"
        assert run(ct, "--out", out, "--recipe", name) == 0
        image, values, _ = loaded(out)
        assert "".join(nibabel.aff2axcodes(image.affine)) == "LPS"
        assert values.shape == (6, 10, 14)


def test_padding_is_written_only_when_asked_for_and_the_mask_tells_it_apart(ct, tmp_path):
    out, mask = tmp_path / "volume.nii.gz", tmp_path / "mask.nii.gz"
    assert run(ct, "--out", out, "--pad", "--mask", mask) == 0
    image, values, document = loaded(out)
    held = np.asanyarray(nibabel.load(mask).dataobj)
    assert values.shape == held.shape == (32, 32, 32)
    assert held.dtype == np.uint8
    assert held.sum() == 12 * 20 * 27
    assert document["grid"]["content"] == [12, 20, 27]
    assert (values[held == 0] == -1024).all()
    np.testing.assert_array_equal(nibabel.load(mask).affine, image.affine)


def test_whole_numbers_are_rounded_and_smaller(ct, tmp_path):
    whole, parts = tmp_path / "whole.nii.gz", tmp_path / "parts.nii.gz"
    assert run(ct, "--out", whole, "--int16") == 0
    assert run(ct, "--out", parts) == 0
    assert loaded(whole)[1].dtype == np.int16
    np.testing.assert_allclose(loaded(whole)[1], loaded(parts)[1], atol=0.5)


def test_files_that_are_there_stay_unless_forced(ct, tmp_path, capsys):
    out = tmp_path / "volume.nii.gz"
    out.write_bytes(b"mine")
    assert run(ct, "--out", out) == 2
    assert "--force" in said(capsys)
    assert out.read_bytes() == b"mine"
    assert run(ct, "--out", out, "--force") == 0
    assert out.read_bytes() != b"mine"


def test_a_write_that_fails_leaves_nothing(ct, tmp_path, capsys, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device", str(tmp_path / "volume.nii.gz"))

    monkeypatch.setattr("wetread_preprocess.command_outputs.write_nifti", full)
    out = tmp_path / "out" / "volume.nii.gz"
    out.parent.mkdir()
    assert run(ct, "--out", out) == 1
    assert "No space left on device" in said(capsys)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--out NAME.nii.gz"),
        (("--out", "volume.mha"), "neither .nii.gz nor .nii"),
        (("--out", "nowhere/volume.nii"), "no folder nowhere"),
        (("--out", "v.nii", "--mask", "v.nii"), "two files"),
        (("--out", "v.nii", "--spacing", "0"), "above 0"),
        (("--out", "v.nii", "--spacing", "1,2"), "one or three"),
        (("--out", "v.nii", "--spacing", "1", "--no-resample"), "name one of them"),
        (("--out", "v.nii", "--orientation", "RAX"), "one letter each"),
        (("--out", "v.nii", "--window", "lungs"), "lungs"),
        (("--out", "v.nii", "--window", "lung", "--normalise", "range"), "name one of them"),
        (("--out", "v.nii", "--bias-field"), "of an MR"),
        (("--out", "v.nii", "--window", "lung", "--int16"), "whole numbers"),
        (("--out", "v.nii", "--denoise", "median"), "median"),
        (("--out", "v.nii", "--recipe", "pet"), "built in are ct, mr"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_right(ct, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert run(ct, *arguments) == 2
    assert says in said(capsys)
    assert not list(tmp_path.glob("v*"))


def test_a_path_that_is_not_there_is_a_wrong_call(tmp_path, capsys):
    assert run(tmp_path / "nowhere", "--out", tmp_path / "v.nii") == 2
    assert "no such file or folder" in said(capsys)


def test_a_folder_without_a_series_ends_with_1_and_says_what_is_there(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no image")
    assert run(tmp_path, "--out", tmp_path / "v.nii") == 1
    assert "no images of CT, MR are there, nor any other DICOM file" in said(capsys)


def test_films_without_a_film_recipe_are_sent_to_the_command_that_reads_them(tmp_path, capsys):
    (tmp_path / "film.dcm").write_bytes(FILM)
    assert run(tmp_path, "--out", tmp_path / "v.nii") == 1
    assert "wetread read" in said(capsys)


def test_too_few_slices_end_with_1_and_the_reason(tmp_path, capsys):
    folder = lay(tmp_path / "ct", series_files(ramp(3)))
    assert run(folder, "--out", tmp_path / "v.nii") == 1
    assert "3" in said(capsys)


def test_a_broken_file_is_named_by_its_path_on_the_terminal_alone(ct, tmp_path, capsys):
    path = ct / "image004.dcm"
    path.write_bytes(path.read_bytes()[:-50])
    out = tmp_path / "v.nii.gz"
    code = run(ct, "--out", out)
    assert "image004.dcm" in said(capsys)
    assert code == 1 or "image004" not in out.with_name("v.json").read_text()


def test_a_film_recipe_writes_the_film_that_the_model_gets(tmp_path):
    (tmp_path / "film.dcm").write_bytes(FILM)
    out = tmp_path / "film.nii.gz"
    assert run(tmp_path / "film.dcm", "--out", out, "--recipe", FILM_RECIPE) == 0
    image, values, document = loaded(out)
    assert values.shape == (224, 224, 1)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 0
    assert "sop_instance_uid" not in document["source"]


def test_images_left_out_are_named_on_the_terminal_and_counted_in_the_json(tmp_path, capsys):
    files = series_files(ramp(), series_uid="1.2.3")
    files += series_files(ramp(2), series_uid="1.2.3", attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    out = tmp_path / "volume.nii.gz"
    assert run(lay(tmp_path / "ct", files), "--out", out) == 0
    left_out = loaded(out)[2]["left_out"]
    assert [one["file"] for one in left_out] == [10, 11]
    assert all("a localiser" in one["why"] and len(one) == 2 for one in left_out)
    text = said(capsys).replace(" ", "")
    assert "image009.dcm" in text
    assert "image010.dcm" in text


def test_quiet_prints_nothing_when_all_is_well(ct, tmp_path, capsys):
    assert run(ct, "--out", tmp_path / "v.nii", "--quiet") == 0
    assert said(capsys).strip() == ""


def test_a_named_file_is_taken_without_its_preamble_and_a_dicomdir_stands_for_its_folder(ct, tmp_path):
    (ct / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (ct / "notes.txt").write_text("no image")
    (ct / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    found = find_series([ct / "DICOMDIR", ct])
    assert [len(one.files) for one in found.series] == [9], "each file once"
    assert [path.name for path in found.unreadable] == ["damaged.dcm"]
    assert found.skipped == 1
    bare = tmp_path / "bare.dcm"
    bare.write_bytes((ct / "image000.dcm").read_bytes()[132:])
    assert find_series([bare]).series[0].uid == found.series[0].uid
    assert not find_series([tmp_path / "elsewhere"]).series


def test_plain_recipes_are_those_of_a_folder_when_saved(tmp_path):
    for plain in PLAIN_RECIPES.values():
        document = {
            "schema": 1, "kind": "volume", "orientation": plain.orientation, "modalities": sorted(plain.modalities),
            "body_parts": list(plain.body_parts), "other_body_parts": [], "most_voxels": plain.most_voxels,
            "steps": recipe_document(plain)["steps"], "buckets": recipe_document(plain)["buckets"],
        }  # fmt: skip
        (tmp_path / "recipe.json").write_text(json.dumps(document))
        assert VolumeRecipe.load(tmp_path) == plain
