"""Pixels that do not count."""

import numpy as np
import pytest
from astropy.wcs import WCS

from deepcr_zoo.dataset.exposures import ChipPixels
from deepcr_zoo.dataset.ignore import ignore_mask, quality_bits
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.exposures.usablepixels import QualityBits
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.recipe import IgnoreBlock
from deepcr_zoo.zoo.recipeinstruments import detector_of
from tests.dataset.visits import shipped

ACS = detector_of(shipped().instrument)


def chip(image, flags, masked=None):
    nothing = np.zeros(image.shape, dtype=bool)
    return ChipPixels(1, image, flags, nothing if masked is None else masked, WCS(naxis=2), 1.0, None)


def test_pixels_that_a_file_masks_are_ignored():
    image, flags = np.zeros((9, 9), dtype=np.float32), np.zeros((9, 9), dtype=np.int16)
    masked = np.eye(9, dtype=bool)
    np.testing.assert_array_equal(ignore_mask(chip(image, flags, masked), QualityBits(0, 0), IgnoreBlock()), masked)


def test_every_flag_but_saturation_and_cosmic_rays_excludes_a_pixel():
    kept = quality_bits(IgnoreBlock(), ACS)
    assert (kept.usable, kept.saturated) == (4096 | 8192, 256 | 2048)
    flags = 2 ** np.arange(15)[None]
    image = np.zeros((1, 15), dtype=np.float32)
    apart = IgnoreBlock(saturation_dilation=1)
    assert ignore_mask(chip(image, flags), kept, apart)[0].tolist() == [bit not in (12, 13) for bit in range(15)]
    combined = np.array([[4096 | 16, 4096 | 8192]])
    assert ignore_mask(chip(image[:, :2], combined), kept, IgnoreBlock()).tolist() == [[True, False]]
    assert quality_bits(IgnoreBlock(keep_bits=[256, 16]), ACS) == QualityBits(272, 2048)
    assert quality_bits(IgnoreBlock(keep_bits=[]), ACS) == QualityBits(0, 256 | 2048)


def test_saturated_pixels_are_ignored_with_a_square_around_them_and_so_are_pixels_without_a_value():
    image, flags = np.zeros((40, 40), dtype=np.float32), np.zeros((40, 40), dtype=np.int16)
    image[20, 20], image[5, 5] = 70_001, 70_000
    image[30, 8:13] = np.nan, np.inf, -1e30, 3e38, -1e10
    flags[30, 30] = 256
    found = ignore_mask(chip(image, flags), quality_bits(IgnoreBlock(), ACS), IgnoreBlock())
    expected = np.zeros((40, 40), dtype=bool)
    expected[17:24, 17:24] = expected[27:34, 27:34] = True
    expected[30, 8:13] = True
    expected[27:34, 6:15] = True  # infinite and 3e38 e- are above the level of saturation
    np.testing.assert_array_equal(found, expected)


def test_a_detector_with_unknown_flags_needs_bits_in_the_recipe():
    decam = next(one for one in default_instruments() if one.name == "DECam")
    with pytest.raises(InvalidDocumentError, match=r"build\.ignore\.keep_bits: expected bits"):
        quality_bits(IgnoreBlock(), decam)
