"""The split never parts a patient; the augmentation changes films and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from wetread_models.augment import augment, match_levels
from wetread_models.data import (
    NORMAL,
    PNEUMONIA,
    DataError,
    FilmFile,
    as_image,
    list_films,
    patient_of,
    read_picture,
    split_patients,
)
from wetread_models.perturbations import PERTURBATIONS


def made_up_films() -> list[FilmFile]:
    rng = np.random.default_rng(0)
    return [
        FilmFile(Path(f"{label}-{patient}-{n}.jpeg"), label, f"{label}-{patient}")
        for label, patients in ((NORMAL, 40), (PNEUMONIA, 90))
        for patient in range(patients)
        for n in range(rng.integers(1, 6))
    ]


def picture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (224, 224)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def test_a_split_never_parts_a_patient_and_loses_no_film() -> None:
    films = made_up_films()
    split = split_patients(films, seed=3)
    parts = (split.train, split.calibration, split.test)
    patients = [{f.patient for f in part} for part in parts]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert sorted(f.path for part in parts for f in part) == sorted(f.path for f in films)
    for label in (NORMAL, PNEUMONIA):
        held_out = {f.patient for f in split.held_out if f.label == label}
        assert len(held_out) == round(0.2 * len({f.patient for f in films if f.label == label}))


def test_a_split_depends_on_its_seed_alone() -> None:
    films = made_up_films()
    assert split_patients(films, seed=1) == split_patients(films, seed=1)
    assert split_patients(films, seed=1) != split_patients(films, seed=2)


@pytest.mark.parametrize(
    ("name", "label", "patient"),
    [
        ("person7_bacteria_24.jpeg", PNEUMONIA, "bacteria-person7"),
        ("person7_virus_3.jpeg", PNEUMONIA, "virus-person7"),
        ("IM-0629-0001-0003.jpeg", NORMAL, "IM-0629"),
        ("NORMAL2-IM-0629-0001.jpeg", NORMAL, "IM-0629"),
    ],
)
def test_a_patient_is_known_by_the_film_s_name(name: str, label: int, patient: str) -> None:
    assert patient_of(name, label) == patient


def test_a_name_without_a_patient_is_refused_for_training_and_counted_alone_in_evaluation(tmp_path: Path) -> None:
    for folder, name in (("NORMAL", "IM-0001-0001.png"), ("PNEUMONIA", "somebody.png")):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / name), picture())
    with pytest.raises(DataError, match=r"somebody\.png"):
        list_films(tmp_path)
    assert [f.patient for f in list_films(tmp_path, known_patients=False)] == ["IM-0001", "PNEUMONIA/somebody.png"]


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    cv2.imwrite(str(tmp_path / "NORMAL" / "IM-0001-0001.png"), picture())
    with pytest.raises(DataError, match="PNEUMONIA is missing"):
        list_films(tmp_path)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpeg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpeg"):
        read_picture(tmp_path / "broken.jpeg")


def test_an_image_is_the_pixel_less_127_over_128() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    image = as_image(pixels)
    assert image.shape == (1, 1, 16, 16)
    assert image.dtype == np.float32
    assert image[0, 0, 0, 0] == np.float32(-127 / 128)
    assert image[0, 0, -1, -1] == 1.0


def test_augmentation_keeps_shape_and_type_and_repeats_with_its_seed() -> None:
    film, other = picture(), picture(1)
    before = film.copy()
    variants = []
    for seed in range(30):
        first, second = (augment(film, other, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == (224, 224)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
        variants.append(first)
    np.testing.assert_array_equal(film, before)
    assert len({v.tobytes() for v in variants}) == 30


def test_a_film_can_take_on_the_gray_levels_of_another() -> None:
    dark = (picture() // 4).astype(np.uint8)
    bright = (picture(1) // 4 + 180).astype(np.uint8)
    matched = match_levels(dark, bright)[dark]
    assert abs(matched.mean() - bright.mean()) < 2


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_perturbation_keeps_shape_and_type_and_repeats(name: str) -> None:
    change = PERTURBATIONS[name]
    changed = change(picture())
    assert changed.shape == (224, 224)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, change(picture()))
