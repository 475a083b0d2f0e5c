"""NIfTI-1 files: what nibabel and SimpleITK read of them is the volume that was written."""

import gzip
import io
import itertools
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK
from wetread_preprocess.volumes.grid import Grid
from wetread_preprocess.volumes.nifti import is_nifti_name, write_nifti

RANDOM = np.random.default_rng(11)


def rotation(axis, degrees):
    """Rodrigues' formula: [3, 3]."""
    x, y, z = np.array(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def affine(turn, spacing=(0.7, 1.3, 2.5), origin=(-101.25, 33.3, 812.7)):
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def written(values, ras, tmp_path, **options):
    path = tmp_path / ("volume.nii.gz" if options.get("compress", True) else "volume.nii")
    with path.open("wb") as file:
        write_nifti(file, values, ras, **options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("compress", [True, False])
def test_nibabel_reads_the_voxels_and_the_type_that_were_written(tmp_path, dtype, compress):
    values = RANDOM.integers(-300 if dtype != np.uint8 else 0, 250, (5, 7, 9)).astype(dtype)
    image = nibabel.load(written(values, affine(np.eye(3)), tmp_path, compress=compress))
    assert image.get_data_dtype() == dtype
    assert image.header["dim"].tolist() == [3, 5, 7, 9, 1, 1, 1, 1]  # the standard: what there is not has length 1
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), values)


def test_both_forms_say_scanner_and_millimetres(tmp_path):
    image = nibabel.load(written(np.zeros((2, 3, 4), np.float32), affine(np.eye(3)), tmp_path, description="by a test"))
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["descrip"].item() == b"by a test"


SKEW = np.eye(4) + 0.1 * np.eye(4, k=1)
ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_either_handedness_has_equal_matrix_and_quaternion(tmp_path, orientation):
    ras = np.zeros((4, 4))
    ras[3, 3] = 1
    for column, letter in enumerate(orientation):
        axis = next(n for n, pair in enumerate(("LR", "PA", "SI")) if letter in pair)
        ras[axis, column] = (1 if letter in "RAS" else -1) * (0.5 + column)
    ras[:3, 3] = (10, -20, 30)
    image = nibabel.load(written(np.zeros((2, 3, 4), np.uint8), ras, tmp_path))
    assert "".join(nibabel.aff2axcodes(image.affine)) == orientation
    np.testing.assert_allclose(image.get_sform(), ras, atol=1e-6)
    np.testing.assert_allclose(image.get_qform(), ras, atol=1e-6)


@pytest.mark.parametrize("mirror", [1, -1])
def test_oblique_quaternions_are_exact_to_single_precision(tmp_path, mirror):
    for number in range(40):
        turn = rotation(RANDOM.normal(size=3), RANDOM.uniform(0, 175)) @ np.diag([1, 1, mirror])
        ras = affine(turn)
        image = nibabel.load(written(np.zeros((1, 1, 1), np.uint8), ras, tmp_path))
        np.testing.assert_allclose(image.get_sform(), ras, rtol=1e-6, atol=1e-4, err_msg=str(number))
        np.testing.assert_allclose(image.get_qform()[:3, :3], ras[:3, :3], atol=1e-5, err_msg=str(number))


def test_near_a_half_turn_the_quaternion_is_as_good_as_its_format(tmp_path):
    # a is the root of 1 - b2 - c2 - d2 there: single precision leaves 3e-4 of it, and the matrix is what readers take.
    ras = affine(rotation((0.1, 0.2, 1), 179.99))
    image = nibabel.load(written(np.zeros((1, 1, 1), np.uint8), ras, tmp_path))
    np.testing.assert_allclose(image.get_qform()[:3, :3], ras[:3, :3], atol=3e-3)
    np.testing.assert_allclose(image.affine, ras, rtol=1e-6, atol=1e-4)


def test_simpleitk_places_the_voxels_where_the_grid_has_them(tmp_path):
    grid = Grid((4, 5, 6), affine(rotation((1, 2, 3), 25)))
    values = RANDOM.normal(size=grid.shape).astype(np.float32)
    image = SimpleITK.ReadImage(str(written(values, grid.ras_affine, tmp_path)))
    for index in ((0, 0, 0), (3, 1, 5), (2, 4, 0)):
        place = image.TransformIndexToPhysicalPoint(index)  # ITK is LPS inside, too
        np.testing.assert_allclose(place, (grid.affine @ [*index, 1])[:3], atol=1e-3)
        assert image.GetPixel(index) == values[index]


def test_a_view_of_a_padded_volume_is_written_without_its_padding(tmp_path):
    padded = RANDOM.normal(size=(1, 8, 16, 32)).astype(np.float32)
    content = padded[0, :5, :11, :13]
    image = nibabel.load(written(content, np.eye(4), tmp_path))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), content)


def test_slabs_join_where_a_volume_has_more_than_one(tmp_path, monkeypatch):
    monkeypatch.setattr("wetread_preprocess.volumes.nifti._SLAB_BYTES", 5 * 7 * 4 * 2)
    values = RANDOM.normal(size=(5, 7, 9)).astype(np.float32)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(written(values, np.eye(4), tmp_path)).dataobj), values)


def test_no_more_than_one_slab_is_written_at_once():
    class Counter(io.RawIOBase):
        most = 0

        def write(self, data):
            self.most = max(self.most, memoryview(data).nbytes)
            return memoryview(data).nbytes

    counter = Counter()
    write_nifti(counter, np.zeros((256, 256, 160), np.float32), np.eye(4), compress=False)
    assert counter.most <= 2 * 2**20


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_pieces_compressed_beside_each_other_are_one_stream_in_order(threads, monkeypatch):
    monkeypatch.setattr("wetread_preprocess.volumes.nifti._SLAB_BYTES", 30 * 20 * 2)
    values = RANDOM.integers(0, 9, (30, 20, 37)).astype(np.int16)
    packed, plain = io.BytesIO(), io.BytesIO()
    write_nifti(packed, values, np.eye(4), threads=threads)
    write_nifti(plain, values, np.eye(4), compress=False)
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)  # checks the checksum and the size at the end
    assert unpacker.decompress(packed.getvalue()) == plain.getvalue()
    assert unpacker.eof
    assert not unpacker.unused_data, "one member"
    assert len(packed.getvalue()) < len(plain.getvalue())


def test_the_same_volume_gives_the_same_bytes_without_a_name_or_a_time_in_them():
    def once():
        file = io.BytesIO()
        write_nifti(file, np.ones((3, 3, 3), np.int16), np.eye(4))
        return file.getvalue()

    assert once() == once()
    assert once()[3:8] == b"\0\0\0\0\0", "flags and time of the gzip member"
    assert len(gzip.decompress(once())) == 352 + 27 * 2


@pytest.mark.parametrize(
    ("values", "ras", "says"),
    [
        (np.zeros((2, 2, 2)), np.eye(4), "float64"),
        (np.zeros((2, 2), np.uint8), np.eye(4), "three axes"),
        (np.zeros((2, 0, 2), np.uint8), np.eye(4), "three axes"),
        (np.zeros((32768, 1, 1), np.uint8), np.eye(4), "32767"),
        (np.zeros((2, 2, 2), np.uint8), SKEW, "right angles"),
        (np.zeros((2, 2, 2), np.uint8), np.diag([1.0, 0, 1, 1]), "no length"),
    ],
)  # fmt: skip
def test_what_nifti_cannot_hold_is_refused_in_words(values, ras, says):
    file = io.BytesIO()
    with pytest.raises(ValueError, match=says):
        write_nifti(file, values, ras)
    assert not file.getvalue()


def test_names_tell_what_is_written(tmp_path):
    assert is_nifti_name(tmp_path / "a.nii.gz")
    assert is_nifti_name(tmp_path / "A.NII")
    assert not is_nifti_name(tmp_path / "a.gz")
