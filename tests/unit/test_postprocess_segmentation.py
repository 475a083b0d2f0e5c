"""A segmentation lies on the source's own pixels: each has the segment of its nearest voxel."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wetread_postprocess import InvalidGeometry, InvalidScores, Segmenter, SegmentRules
from wetread_postprocess.back_mapping import TIE, Source, _parallel_axes, to_source

CHECKOUT = Path(__file__).parents[2]
CARD = json.loads((CHECKOUT / "model_repository" / "brain_mr_postprocess" / "1" / "pipeline.json").read_text())
SHAPE = (5, 6, 7)


def rotation(seed: int) -> np.ndarray:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turned * np.sign(np.linalg.det(turned))


def geometry(
    *,
    turned: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    axes: tuple[int, int, int] = (0, 1, 2),
    flips: tuple[int, int, int] = (1, 1, 1),
    voxel: tuple[float, float, float] = (1.0, 1.0, 1.0),
    volume: tuple[int, int, int] = (6, 8, 9),
    askew: np.ndarray | None = None,
    shape: tuple[int, int, int] = SHAPE,
) -> dict[str, object]:
    """GEOMETRY of a stack along the columns of `turned` (normal, column direction, row direction).

    The volume's axes are those, permuted and flipped, about the same centre; `askew` is a matrix that turns it more.
    """
    turned = np.eye(3) if turned is None else turned
    normal, down, along = turned.T
    if positions is None:
        positions = np.arange(shape[0])[:, None] * normal
    half = np.array([(shape[1] - 1) * spacing[0] / 2, (shape[2] - 1) * spacing[1] / 2])
    centre = positions.mean(axis=0) + half[0] * down + half[1] * along
    affine = np.eye(4)
    affine[:3, :3] = turned[:, list(axes)] * flips * np.array(voxel)
    if askew is not None:
        affine[:3, :3] = askew @ affine[:3, :3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(volume) - 1) / 2)
    return {
        "rows": shape[1],
        "columns": shape[2],
        "pixel_spacing_mm": list(spacing),
        "row_direction": along.tolist(),
        "column_direction": down.tolist(),
        "positions_mm": positions.tolist(),
        "volume": {"shape": list(volume), "padded": [16, 16, 16], "affine": affine.tolist()},
    }


def brute_force(labels: np.ndarray, document: dict) -> np.ndarray:
    """Every pixel through both affines, one by one."""
    affine = np.array(document["volume"]["affine"])
    answer = np.zeros((len(document["positions_mm"]), document["rows"], document["columns"]), np.uint8)
    for k, r, c in np.ndindex(answer.shape):
        world = (
            np.array(document["positions_mm"][k])
            + r * document["pixel_spacing_mm"][0] * np.array(document["column_direction"])
            + c * document["pixel_spacing_mm"][1] * np.array(document["row_direction"])
        )
        at = np.linalg.solve(affine, np.array([*world, 1.0]))[:3]
        voxel = np.floor(at + 0.5 + TIE).astype(int)
        if (voxel >= 0).all() and (voxel < labels.shape).all():
            answer[k, r, c] = labels[tuple(voxel)]
    return answer


def drawn(shape: tuple[int, ...] = (6, 8, 9), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8)


def irregular(turned: np.ndarray, tilt_mm: float = 0.0) -> np.ndarray:
    """Positions at uneven distances; a tilted gantry moves each slice down the columns with its distance."""
    at = np.array([0.0, 1.08, 4.1, 5.0, 12.0])
    return at[:, None] * turned[:, 0] + tilt_mm * at[:, None] * turned[:, 1]


OBLIQUE = rotation(3)
CASES = {
    "even": {},
    "rows and columns of other sizes": {"spacing": (0.7, 1.3), "voxel": (1.1, 0.9, 1.0)},
    "irregular distances": {"positions": irregular(np.eye(3)), "volume": (13, 7, 8)},
    "a tilted gantry": {"positions": irregular(np.eye(3), np.tan(np.radians(18.5))), "volume": (13, 10, 8)},
    "flipped": {"flips": (-1, 1, -1), "spacing": (0.6, 0.6)},
    "turned by right angles": {"axes": (2, 0, 1), "flips": (1, -1, -1), "spacing": (1.4, 0.8)},
    "oblique with the source": {"turned": OBLIQUE, "spacing": (0.8, 0.8), "axes": (1, 2, 0)},
    "oblique, tilted, irregular, flipped": {
        "turned": OBLIQUE,
        "positions": irregular(OBLIQUE, 0.3),
        "axes": (1, 2, 0),
        "flips": (-1, 1, -1),
        "volume": (9, 7, 13),
    },
    "a grid of its own": {"askew": rotation(5), "spacing": (0.8, 0.8)},
    "a grid a little askew": {"askew": np.eye(3) + 1e-3 * rotation(5), "spacing": (0.9, 0.9)},
}


@pytest.mark.parametrize("case", CASES)
def test_every_pixel_has_the_label_of_its_nearest_voxel(case: str):
    document = geometry(**CASES[case])
    labels = drawn(tuple(document["volume"]["shape"]))
    expected = brute_force(labels, document)
    assert np.count_nonzero(expected) > 40, "the case must map something"
    np.testing.assert_array_equal(to_source(labels, Source.of(document)), expected)


@pytest.mark.parametrize("case", CASES)
def test_only_a_grid_askew_takes_the_long_way(case: str):
    assert (_parallel_axes(Source.of(geometry(**CASES[case]))) is None) == ("askew" in CASES[case])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    order=st.permutations((0, 1, 2)),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    spacing=st.tuples(*[st.floats(0.3, 3.0)] * 2),
    voxel=st.tuples(*[st.floats(0.4, 2.5)] * 3),
    upright=st.booleans(),
)
def test_wherever_the_series_lies_the_nearest_voxel_is_taken(seed, order, flips, spacing, voxel, upright):
    random = np.random.default_rng(seed)
    turned = np.eye(3) if upright else rotation(seed)
    at = np.cumsum(random.uniform(0.4, 4.0, SHAPE[0]))
    positions = random.normal(size=3) * 50 + at[:, None] * turned[:, 0] + random.normal() * at[:, None] * turned[:, 1]
    document = geometry(
        turned=turned, positions=positions, axes=tuple(order), flips=flips, spacing=spacing, voxel=voxel
    )
    labels = drawn(seed=seed)
    np.testing.assert_array_equal(to_source(labels, Source.of(document)), brute_force(labels, document))


def test_a_pixel_half_way_takes_the_higher_voxel_whichever_way_its_axis_leads():
    labels = np.arange(1, 9, dtype=np.uint8).reshape(1, 1, 8)
    for sign in (1, -1):
        document = geometry(volume=(1, 1, 8), shape=(1, 1, 7), flips=(1, 1, sign))  # 7 pixels between 8 voxels
        row = to_source(labels, Source.of(document))[0, 0]
        assert row.tolist() == ([2, 3, 4, 5, 6, 7, 8] if sign > 0 else [8, 7, 6, 5, 4, 3, 2])


def segmenter() -> Segmenter:
    return Segmenter(SegmentRules((1, 2), None), None, b"{}")


def scores(labels: np.ndarray, channels: int = 3) -> np.ndarray:
    """LOGITS, padded, whose largest channel is the label, by a margin that varies."""
    padded = np.zeros((channels, *(side + 3 for side in labels.shape)), np.float32)
    padded[0] = -1.0
    padded[-1] = 9.0  # padding shouts, and must not be heard
    inner = padded[:, : labels.shape[0], : labels.shape[1], : labels.shape[2]]
    inner[...] = np.random.default_rng(1).uniform(-3, 0, inner.shape)
    np.put_along_axis(inner, labels[None].astype(np.intp), 1.0, axis=0)
    return padded


def told(document: dict) -> bytes:
    return json.dumps(document).encode()


def test_the_largest_logit_within_the_volume_decides():
    document = geometry()
    labels = drawn() % 3
    answer = segmenter().read(scores(labels), None, None, told(document))
    np.testing.assert_array_equal(answer.labels, brute_force(labels, document))
    assert answer.labels.dtype == np.uint8


def test_where_no_slice_lies_there_is_no_segment():
    document = geometry()
    labels = np.ones((6, 8, 9), np.uint8)
    mask = np.ones((9, 11, 12), np.uint8)
    mask[:, :4] = 0
    answer = segmenter().read(scores(labels), mask, None, told(document)).labels
    labels[:, :4] = 0
    np.testing.assert_array_equal(answer, brute_force(labels, document))
    assert set(np.unique(answer)) == {0, 1}


def test_a_channel_that_is_no_segment_is_background():
    document = geometry()
    labels = drawn() % 5
    answer = Segmenter(SegmentRules((2, 4), None), None, b"").read(scores(labels, 5), None, None, told(document)).labels
    np.testing.assert_array_equal(answer, brute_force(np.where(np.isin(labels, (2, 4)), labels, 0), document))


def test_notes_hold_the_request_apart_from_the_geometry():
    about = {"warnings": ["a gap"], "left_out": [{"file": 3, "why": "a localiser"}], "timings_ms": {"resample": 1.5}}
    document = geometry()
    notes = json.loads(segmenter().read(scores(drawn() % 3), None, None, told(document | about)).notes)
    assert notes == about | {"geometry": json.loads(json.dumps(document))}


def test_scores_that_are_no_numbers_are_no_background():
    spoilt = scores(drawn() % 3)
    spoilt[1, 2, 3, 4] = np.nan
    with pytest.raises(InvalidScores, match="NaN"):
        segmenter().read(spoilt, None, None, told(geometry()))


def test_nan_in_the_padding_harms_nobody():
    spoilt = scores(drawn() % 3)
    spoilt[:, -1] = np.nan
    assert segmenter().read(spoilt, None, None, told(geometry())).labels.any()


@pytest.mark.parametrize(
    "words",
    [b"no json", b"[]", b"{}", told(geometry() | {"positions_mm": [1, 2]}), told(geometry(volume=(60, 8, 9)))],
    ids=["no JSON", "no object", "empty", "positions", "larger than LOGITS"],
)
def test_a_geometry_that_preprocessing_did_not_write_is_refused(words: bytes):
    with pytest.raises(InvalidGeometry):
        segmenter().read(scores(drawn() % 3), None, None, words)


def test_rules_that_do_not_fit_the_configuration_are_not_loaded():
    rules = segmenter()
    rules.fits(3, novelty=False)
    rules.fits(-1, novelty=False)
    with pytest.raises(ValueError, match="segment 2"):
        rules.fits(2, novelty=False)
    with pytest.raises(ValueError, match="NOVELTY"):
        rules.fits(3, novelty=True)


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([], "no segment"),
        ([{"value": 0, "label": "x"}], "from 1 to 255"),
        ([{"value": 256, "label": "x"}], "from 1 to 255"),
        ([{"value": 1, "label": "x"}, {"value": 1, "label": "y"}], "share a value"),
        ([{"label": "x"}], "'value' is missing"),
    ],
)
def test_segments_that_contradict_themselves_are_refused_by_name(tmp_path: Path, segments: list, reason: str):
    (tmp_path / "pipeline.json").write_text(json.dumps(CARD | {"segments": segments}))
    with pytest.raises(ValueError, match=reason):
        SegmentRules.load(tmp_path)


def test_the_shipped_segments_are_loaded():
    folder = CHECKOUT / "model_repository" / "brain_mr_postprocess" / "1"
    assert SegmentRules.load(folder).values == (1, 2)
    assert Segmenter.load(folder).card == (folder / "pipeline.json").read_bytes()
