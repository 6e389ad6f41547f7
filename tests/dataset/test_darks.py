"""Cosmic rays from darks: all that were simulated, and no hot pixels."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset import darks
from deepcr_zoo.dataset.crsplit import RepeatedExposure
from deepcr_zoo.dataset.darks import Detection
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.errors import DataError, InvalidFileError
from deepcr_zoo.exposures.usablepixels import QualityBits
from tests.dataset.darks import COUNT, DARK_ELECTRON_S, SECONDS, SHAPE, write_darks
from tests.dataset.visits import copy_changed, shipped

INSTRUMENT = shipped().instrument
DETECTION = Detection((5.0, 2.5), 1, 5.0, QualityBits(4096 | 8192, 256 | 2048), 9.0, INSTRUMENT)
NOISE = float(np.hypot(INSTRUMENT.read_noise_electron, np.sqrt(DARK_ELECTRON_S * SECONDS)))


@pytest.fixture(scope="module")
def facts(dark_folder):
    return tuple(read_facts(path, INSTRUMENT, "dark_paste", is_dark=True)[0] for path in sorted(dark_folder.glob("*.fits")))


def truth(dark):
    return np.load(dark.path.with_name(f"{dark.name}.npz"))


def masks(facts):
    (bank,) = darks.read_hits(facts, DETECTION)
    found = []
    for hits in bank:
        mask = np.zeros(hits.shape, bool)
        mask[hits.rows, hits.columns] = True
        found.append(mask)
    return found


def test_a_dark_has_chips_and_no_place_on_the_sky(facts):
    assert len(facts) == COUNT
    assert facts[0].name == "jdark000q"
    assert facts[0].shapes == (SHAPE,)
    assert facts[0].outlines == ()
    assert facts[0].read_noise_electron == INSTRUMENT.read_noise_electron
    assert read_chips(facts[0], INSTRUMENT)[0].image.shape == SHAPE


@pytest.mark.parametrize(("number", "least"), [(COUNT, 0.97), (3, 0.93)])
def test_bright_cosmic_rays_are_found_and_little_else(facts, number, least):
    for dark, mask in zip(facts[:number], masks(facts[:number]), strict=True):
        hit, good = truth(dark)["cosmic_rays"], truth(dark)["excess"] == 0
        assert mask[(hit > 5 * NOISE) & good].mean() > least
        assert mask[(hit > 3 * NOISE) & good].mean() > 0.9
        assert (mask & (hit == 0)).sum() < 0.04 * mask.sum()
        assert mask[hit == 0].mean() < 0.0005


def test_hot_pixels_are_never_used_with_or_without_flags(facts):
    excess = truth(facts[0])["excess"]
    hot = excess * SECONDS > 8 * np.sqrt(NOISE**2 + excess * SECONDS)
    quality = read_chips(facts[0], INSTRUMENT)[0].quality
    assert (hot & (quality == 0)).sum() > 50
    assert not any(mask[hot].any() for mask in masks(facts))


def test_electrons_do_not_include_dark_current_or_bias(facts):
    (bank,) = darks.read_hits(facts, DETECTION)
    for dark, hits in zip(facts, bank, strict=True):
        real = truth(dark)["cosmic_rays"][hits.rows, hits.columns]
        assert (hits.electrons > 0).all()
        # beside the noise, half a sigma at most: where two others are hit too
        assert np.median(hits.electrons - real) == pytest.approx(0, abs=NOISE / 2)
        assert hits.electrons.sum() == pytest.approx(real.sum(), rel=0.05)


def test_darks_are_read_once_in_a_process(facts):
    assert darks.read_hits(facts, DETECTION) is darks.read_hits(facts, DETECTION)
    assert darks.read_hits(facts[:3], DETECTION) is not darks.read_hits(facts, DETECTION)


def test_unusable_pixels_are_not_cosmic_rays():
    random = np.random.default_rng(1)
    images = [random.normal(10, 4, (50, 60)).astype(np.float32) for _ in range(4)]
    images[0][20:24, 10:40] += 400
    usable = np.ones((50, 60), bool)
    usable[22, 15] = False
    repeats = [RepeatedExposure(image, usable, 100.0, 4.0) for image in images]
    hits = darks.find_hits(repeats, DETECTION)[0]
    found = set(zip(hits.rows.tolist(), hits.columns.tolist(), strict=True))
    assert (22, 15) not in found
    assert {(row, column) for row in range(20, 24) for column in range(10, 40)} - found == {(22, 15)}
    assert len(darks.find_hits(repeats, DETECTION)[1].rows) < 5


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 3), (0.2, 3), (0.5, 4), (0.9, 5)])
def test_no_dark_is_for_both_training_and_test(facts, fraction, expected):
    banks = darks.split_darks(facts, fraction, seed=1)
    assert len(banks["test"]) == expected
    assert sorted(one.name for bank in banks.values() for one in bank) == sorted(one.name for one in facts)
    assert darks.split_darks(facts[::-1], fraction, seed=1) == banks
    assert len({darks.split_darks(facts, fraction, seed)["test"] for seed in range(8)}) > 1


def test_too_few_darks_are_refused(facts):
    with pytest.raises(
        DataError, match=r"^5 dark exposures can be used .*: expected 6 or more, 3 for training and 3 others"
    ):
        darks.split_darks(facts[:5], 0.2, seed=1)


def test_darks_of_other_shapes_are_refused(facts, tmp_path):
    write_darks(tmp_path, 1, (128, 160))
    (other,) = read_facts(tmp_path / "jdark000q_flt.fits", INSTRUMENT, "dark_paste", is_dark=True)
    with pytest.raises(
        DataError, match=r"have chips of 392 x 400 and of 128 x 160 pixels: expected darks that are all alike"
    ):
        darks.split_darks([*facts[1:], other], 0.2, seed=1)


def test_a_science_exposure_is_refused_as_dark(facts, tmp_path):
    def external(hdus):
        hdus[0].header["IMAGETYP"] = "EXT"

    copy = copy_changed(facts[0].path, tmp_path, external)
    with pytest.raises(InvalidFileError, match="its IMAGETYP is EXT: expected DARK"):
        read_facts(copy, INSTRUMENT, "dark_paste", is_dark=True)

    def without_type(hdus):
        del hdus[0].header["IMAGETYP"]
        hdus[0].header["TARGNAME"] = "NGC1068"

    copy = copy_changed(facts[0].path, tmp_path / "without_type", without_type)
    with pytest.raises(InvalidFileError, match="it has no IMAGETYP, and its target is NGC1068: expected DARK"):
        read_facts(copy, INSTRUMENT, "dark_paste", is_dark=True)
    with pytest.raises(InvalidFileError, match="place on the sky"):
        read_facts(facts[0].path, INSTRUMENT, "dark_paste")


def test_a_raw_dark_is_read_without_its_overscan(tmp_path):
    pixels = np.full((2068, 4144), 100, np.uint16)
    pixels[500, 500] = 300
    primary = {"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "ROOTNAME": "jraw", "EXPTIME": 500.0, "CCDGAIN": 2.0}
    primary["IMAGETYP"] = "DARK"
    path = tmp_path / "jraw_raw.fits"
    science = fits.ImageHDU(pixels, fits.Header({"BUNIT": "COUNTS", "CCDCHIP": 2}), name="SCI", ver=1)
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary)), science]).writeto(path)
    (dark,) = read_facts(path, INSTRUMENT, "dark_paste", is_dark=True)
    assert dark.shapes == ((2048, 4096),)
    (chip,) = read_chips(dark, INSTRUMENT)
    assert chip.image.sum() == 400
