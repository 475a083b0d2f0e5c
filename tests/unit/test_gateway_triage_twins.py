"""Comparing pixels: what is equal, and what a film does that kills, hangs or fools a decoder."""

import sys

import imagecodecs
import numpy as np
import pytest
from films import LOSSLESS, NATIVE, Stored, compressed, film, inverted_twin, radiograph, renamed, to_bytes
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, RLELossless
from triage_site import PIXELS, Site, instance
from wetread_gateway.triage.pixel_process import PixelProcess, PixelsUnknown
from wetread_gateway.triage.pixels import digest, equal
from wetread_gateway.triage.twins import Twins, same_dataset

UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
# Frame-by-frame deflate and "encapsulated uncompressed" are newer than what pydicom reads.
DECODED = [syntax for syntax in LOSSLESS if syntax not in (UNCOMPRESSED, "1.2.840.10008.1.2.8.1")]


@pytest.fixture
def written(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # `compressed` writes the SOP Class UID wrong
@pytest.mark.parametrize("syntax", [*NATIVE, *DECODED], ids=str)
def test_lossless_syntaxes_hold_equal_pixels_and_one_digest(written, syntax):
    dataset = film(radiograph(40, 30))
    plain = written("plain", to_bytes(dataset))
    data = to_bytes(dataset, syntax) if syntax in NATIVE else compressed(dataset, syntax)
    other = written("other", data)
    assert equal(plain, other)
    assert digest(plain) == digest(other)


def test_rubbish_around_the_stored_bits_does_not_count(written):
    values = radiograph(20, 20)
    clean = written("clean", to_bytes(film(Stored(values))))
    dirty = written("dirty", to_bytes(film(Stored(values, rubbish=0xF000))))
    assert equal(clean, dirty)
    assert digest(clean) == digest(dirty)


def test_signed_values_are_equal_however_their_sign_is_kept(written):
    values = radiograph(20, 20).astype(np.int32) - 2048
    one = written("one", to_bytes(film(Stored(values, signed=True))))
    extended = written("extended", to_bytes(film(Stored(values, bits_stored=16, signed=True))))
    assert equal(one, extended)


def test_one_unit_in_one_pixel_is_a_difference(written):
    other = PIXELS.copy()
    other[0, 0] ^= 1
    assert not equal(written("a", instance()), written("b", instance(pixels=other)))


def test_what_samples_mean_counts(written):
    dataset = film(radiograph(20, 20))
    plain = written("plain", to_bytes(dataset))
    inverted = written("inverted", to_bytes(film(radiograph(20, 20), PhotometricInterpretation="MONOCHROME1")))
    twin = written("twin", inverted_twin(dataset))
    rescaled = written("rescaled", to_bytes(film(radiograph(20, 20), RescaleSlope="2", RescaleIntercept="0")))
    assert not equal(plain, inverted)
    assert not equal(plain, twin)
    assert not equal(plain, rescaled)
    assert len({digest(path) for path in (plain, inverted, twin, rescaled)}) == 4


def test_a_decompressed_lossy_copy_is_equal_and_one_compressed_anew_is_not(written):
    dataset = film(radiograph(64, 64, bits=8))
    lossy = written("lossy", compressed(dataset, JPEGBaseline8Bit, level=60))
    again = written("again", compressed(dataset, JPEGBaseline8Bit, level=20))
    frame = next(generate_frames(dcmread(lossy).PixelData, number_of_frames=1))
    decoded = written("decoded", to_bytes(film(imagecodecs.jpeg8_decode(frame))))
    assert equal(lossy, decoded)
    assert not equal(lossy, again)


def test_a_dataset_is_the_same_whatever_stands_before_it(written):
    data = instance()
    other = bytearray(data)
    other[0] = 1
    assert same_dataset(written("a", data), written("b", bytes(other)))
    other[-1] ^= 1
    assert not same_dataset(written("a", data), written("b", bytes(other)))


@pytest.mark.slow
def test_a_decoder_that_dies_or_hangs_is_started_anew(written, tmp_path, monkeypatch):
    path = written("film", instance())
    script = tmp_path / "decoder.py"
    script.write_text(
        "import sys, time\n"
        "line = sys.stdin.readline()\n"
        "if 'SLEEPY' in line: time.sleep(60)\n"
        "if 'DEADLY' not in line: print('{\"digest\": \"d\"}', flush=True)\n"
    )
    process = PixelProcess(command=(sys.executable, str(script)))
    with pytest.raises(PixelsUnknown, match="died"):
        process.digest(tmp_path / "DEADLY")
    with monkeypatch.context() as patience:
        patience.setattr(process, "_timeout_s", 0.2)
        with pytest.raises(PixelsUnknown, match=r"longer than 0\.2 s"):
            process.digest(tmp_path / "SLEEPY")
    assert process.digest(path) == "d"
    process.close()


@pytest.mark.slow
def test_a_poisonous_twin_is_quarantined_and_the_next_one_compared(tmp_path):
    script = tmp_path / "decoder.py"
    script.write_text(
        "import sys\nfrom wetread_gateway.triage import pixels\n"
        "for line in sys.stdin:\n"
        "    if (__import__('pathlib').Path(sys.argv[1]).exists()): sys.exit(1)\n"
        "    import json; print(json.dumps(pixels.answer(json.loads(line))), flush=True)\n"
    )
    poison = tmp_path / "poison"
    poison.touch()
    site = Site(tmp_path / "site")
    site.triage.twins.close()
    process = PixelProcess(command=(sys.executable, str(script), str(poison)))
    site.triage.twins = site.triage._decider._twins = Twins(lambda: site.context.ring("triage"), process)
    site.arrive(instance())
    site.settle()
    site.arrive(instance(syntax=RLELossless))
    site.settle()
    poison.unlink()
    site.arrive(instance(syntax=RLELossless))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "quarantined", "duplicate"]
    assert "the decoder died of its pixels" in site.instances()[1].reason
    site.close()


@pytest.mark.slow
def test_lossy_jpeg_2000_twins_of_other_quality_are_quarantined(tmp_path):
    site = Site(tmp_path)
    given = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.1"}
    dataset = film(radiograph(64, 64), **given)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.1"
    site.arrive(to_bytes(dataset))
    site.settle()
    frame_level = compressed(dataset, "1.2.840.10008.1.2.4.90", level=20)
    site.arrive(renamed(frame_level, JPEG2000))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "quarantined"]
    site.close()
