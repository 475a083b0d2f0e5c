"""Properties that hold for any film, found with hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from film_reference import image
from films import Stored, compressed, film, to_bytes
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from wetread_preprocess import ImageError, InvalidDicom, UnsupportedImage

SHARED = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LOW, HIGH = -127 / 128, 1.0


@st.composite
def stored_values(draw) -> Stored:
    rows, columns = draw(st.integers(32, 330)), draw(st.integers(32, 330))
    allocated = draw(st.sampled_from([8, 16]))
    bits = draw(st.integers(2 if allocated == 8 else 4, allocated))
    high_bit = draw(st.integers(bits - 1, allocated - 1))
    signed = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(0, 2**bits, (rows, columns)) - signed * 2 ** (bits - 1)
    return Stored(values, bits, allocated, high_bit, signed, draw(st.integers(0, 2**allocated - 1)))


@pytest.mark.slow
@SHARED
@given(stored=stored_values(), place=st.floats(-0.5, 1.5), width=st.floats(1.2, 4.0), polarity=st.integers(1, 2))
def test_any_layout_and_any_wide_window_gives_what_the_reference_gives(preprocessor, stored, place, width, polarity):
    span, low = 2**stored.bits_stored, -stored.signed * 2 ** (stored.bits_stored - 1)
    # Wide enough that no pixel of this range is clipped, so that average and window may change places.
    centre = round(low + span * (0.5 + (place - 0.5) * (width - 1.2) / 2), 3)
    dataset = film(
        stored,
        WindowCenter=centre,
        WindowWidth=round(span * width + 1, 3),
        PhotometricInterpretation=f"MONOCHROME{polarity}",
    )
    got = preprocessor.read(to_bytes(dataset)).image[0]
    expected = image(dataset, stored.values)
    assert np.isfinite(got).all()
    assert got.min() >= LOW - 1e-6
    assert got.max() <= HIGH + 1e-6
    np.testing.assert_allclose(got, expected, rtol=0, atol=4e-4)


@pytest.mark.slow
@SHARED
@given(
    stored=stored_values(),
    centre=st.floats(-1e5, 1e5),
    width=st.floats(-10, 1e5),
    slope=st.floats(-50, 50).filter(lambda slope: abs(slope) > 1e-3),
    intercept=st.floats(-1e4, 1e4),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", "NONSENSE", None]),
    padding=st.none() | st.integers(0, 255),
)
def test_any_window_and_rescale_gives_finite_levels_in_range_or_is_refused(
    preprocessor, stored, centre, width, slope, intercept, function, padding
):
    dataset = film(
        stored,
        WindowCenter=round(centre, 2),
        WindowWidth=round(width, 2),
        RescaleSlope=round(slope, 4),
        RescaleIntercept=round(intercept, 3),
        VOILUTFunction=function,
    )
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "US", padding)
    try:
        got = preprocessor.read(to_bytes(dataset)).image
    except UnsupportedImage as error:
        assert "padding" in str(error)  # noqa: PT017 -- the one refusal that these films may meet
        return
    assert np.isfinite(got).all()
    assert got.min() >= LOW - 1e-6
    assert got.max() <= HIGH + 1e-6


# Eight signed bits or fewer in sixteen: our encoder writes a codestream of 16 bits.
NARROW = Stored(
    np.arange(-8, 8).repeat(64).reshape(32, 32), bits_stored=4, bits_allocated=16, high_bit=None, signed=True
)


@pytest.mark.slow
@SHARED
@example(stored=NARROW, syntax=JPEG2000Lossless)
@given(stored=stored_values(), syntax=st.sampled_from([RLELossless, JPEGLSLossless, JPEG2000Lossless]))
def test_any_layout_is_bit_equal_when_compressed(preprocessor, stored, syntax):
    plain = Stored(stored.values, stored.bits_stored, stored.bits_allocated, None, stored.signed)
    assume(not (syntax == JPEG2000Lossless and stored.bits_allocated == 8 and stored.signed))  # no encoder at hand
    dataset = film(plain, WindowCenter=0, WindowWidth=2**stored.bits_stored)
    np.testing.assert_array_equal(
        preprocessor.read(compressed(dataset, syntax)).image, preprocessor.read(to_bytes(dataset)).image
    )


@SHARED
@given(junk=st.binary(max_size=400), preamble=st.booleans())
def test_any_bytes_are_refused_by_name(preprocessor, junk, preamble):
    data = b"\0" * 128 + b"DICM" + junk if preamble else junk
    try:
        preprocessor.read(data)
    except ImageError:
        return
    raise AssertionError("random bytes were read as a film")


HEADER = to_bytes(film(np.arange(100 * 90, dtype=np.uint8).reshape(100, 90) // 3 * 2))


@pytest.mark.slow
@settings(SHARED, max_examples=300)
@given(at=st.integers(132, len(HEADER) - 9000), value=st.integers(0, 255), cut=st.integers(0, 3))
def test_any_byte_of_a_header_may_be_wrong(preprocessor, at, value, cut):
    broken = bytearray(HEADER[: len(HEADER) - cut])
    broken[at] = value
    try:
        got = preprocessor.read(bytes(broken)).image
    except (InvalidDicom, UnsupportedImage):
        return
    assert np.isfinite(got).all()
