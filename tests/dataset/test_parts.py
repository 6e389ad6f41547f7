"""Stamps, ignore masks, sky levels, the quality gate and the report, each on its own."""

import re

import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo.dataset import overview, quality, splits
from deepcr_zoo.dataset.exposures import detector_of
from deepcr_zoo.dataset.ignore import ignore_mask, kept_bits
from deepcr_zoo.dataset.quality import MaskCount
from deepcr_zoo.dataset.store import Rejected
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.zoo.instruments import default_instruments
from deepcr_zoo.zoo.recipe import IgnoreBlock, StampBlock
from tests.dataset.visits import shipped

# Stamps


def test_a_full_acs_chip_has_105_stamps_side_by_side_within_the_border():
    found = splits.positions((2048, 4096), StampBlock())
    assert len(found) == 105
    assert found.min(axis=0).tolist() == [128, 128]
    assert (found.max(axis=0) + 256).tolist() == [1920, 3968]
    covered = np.zeros((2048, 4096), dtype=int)
    for row, column in found:
        covered[row : row + 256, column : column + 256] += 1
    assert (covered[128:1920, 128:3968] == 1).all()
    assert covered.sum() == 105 * 256**2


def test_stamps_are_cut_where_they_are_and_a_small_chip_has_none():
    chip = np.arange(100 * 120).reshape(100, 120)
    block = StampBlock(size=32, border=3)
    where = splits.positions(chip.shape, block)
    assert len(where) == 2 * 3
    for (row, column), stamp in zip(where, splits.cut(chip, where, 32), strict=True):
        assert stamp[0, 0] == chip[row, column]
        assert stamp[-1, -1] == chip[row + 31, column + 31]
    assert splits.cut(chip, splits.positions((30, 120), block), 32).shape == (0, 32, 32)


# Ignored pixels

ACS = detector_of(shipped().instrument)


def test_saturation_and_cosmic_ray_bits_exclude_no_pixel_every_other_flag_does():
    kept = kept_bits(IgnoreBlock(), ACS)
    assert kept == 256 | 2048 | 4096 | 8192
    flags = 2 ** np.arange(15)[None]
    image = np.zeros((1, 15), dtype=np.float32)
    assert ignore_mask(image, flags, kept, IgnoreBlock())[0].tolist() == [bit not in (8, 11, 12, 13) for bit in range(15)]
    combined = np.array([[4096 | 16, 4096 | 8192]])
    assert ignore_mask(image[:, :2], combined, kept, IgnoreBlock()).tolist() == [[True, False]]
    assert kept_bits(IgnoreBlock(keep_bits=[256, 16]), ACS) == 272
    assert kept_bits(IgnoreBlock(keep_bits=[]), ACS) == 0


def test_saturated_pixels_are_ignored_with_a_square_around_them_and_so_is_what_has_no_value():
    image = np.zeros((40, 40), dtype=np.float32)
    image[20, 20], image[5, 5], image[30, 8] = 70_001, 70_000, np.nan
    found = ignore_mask(image, np.zeros((40, 40), dtype=np.int16), 0, IgnoreBlock())
    expected = np.zeros((40, 40), dtype=bool)
    expected[17:24, 17:24] = True
    expected[30, 8] = True
    np.testing.assert_array_equal(found, expected)


def test_a_detector_whose_flags_nobody_knows_needs_bits_in_the_recipe():
    decam = next(one for one in default_instruments().instruments if one.name == "DECam")
    with pytest.raises(InvalidDocumentError, match=r"build\.ignore\.keep_bits: expected bits"):
        kept_bits(IgnoreBlock(), decam)


# Sky levels


def test_the_sky_level_says_where_it_comes_from():
    assert quality.sky_level("mdrizsky", [50.0, 52.0], 40.0) == quality.SkyLevel(51.0, "mdrizsky")
    for absent in ([None], [0.0, 0.0], [50.0, None], [float("nan")]):
        assert quality.sky_level("mdrizsky", absent, 40.0) == quality.SkyLevel(40.0, "measured")
    assert quality.sky_level("measured", [50.0], 40.0) == quality.SkyLevel(40.0, "measured")


def test_a_measured_level_is_the_sky_between_stars_cosmic_rays_and_what_is_ignored():
    rng = np.random.default_rng(2)
    image = rng.normal(60, 8, (500, 500)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] += 500
    image[:100] = 1e4
    image[200, 200] = np.nan
    ignored = ~np.isfinite(image)
    ignored[:100] = True
    assert quality.measure([image], [ignored]) == pytest.approx(60, abs=0.3)


# Quality


def test_ratios_are_to_what_is_usual_in_the_visit():
    assert quality.ratios([1.0, 1.0, 5.0]) == [1.0, 1.0, 5.0]
    assert quality.ratios([1.0, 4.0]) == [0.25, 4.0]
    assert quality.worst([1.0, 1.1, 0.3], 2.0) == 2
    assert quality.worst([0.6, 1.0, 1.9], 2.0) is None
    assert quality.worst(quality.ratios([0.0, 1.0, 1.0]), 2.0) == 0
    assert quality.worst(quality.ratios([0.0, 0.0, 0.0]), 2.0) == 0


def test_masks_cluster_on_stars_only_if_chance_would_not_do_it():
    few = MaskCount(
        masked=1000, pixels=100_000, groups=125, masked_on_stars=10, on_stars=150, masked_in_dark=250, in_dark=25_000
    )
    assert few.star_excess == pytest.approx(6.7, abs=0.1)
    assert not few.exceeds(4.0)
    many = few + MaskCount(masked_on_stars=990, on_stars=14_850)
    assert many.star_excess == pytest.approx(6.7, abs=0.1)
    assert many.exceeds(4.0)
    assert not many.exceeds(7.0)
    assert MaskCount().star_excess is None
    assert not MaskCount().exceeds(4.0)


def test_masked_pixels_are_counted_on_stars_and_off():
    rng = np.random.default_rng(3)
    blotted = np.full((200, 200), 50.0, dtype=np.float32) + rng.random((200, 200)).astype(np.float32)
    blotted[50:53, 60:63] += 5000
    mask = np.zeros(blotted.shape, dtype=bool)
    mask[51, 61:70] = True
    mask[100, 100:104] = True
    mask[101, 104] = True
    ignored = np.zeros(blotted.shape, dtype=bool)
    ignored[:, 150:] = True
    mask[20, 160] = True
    found = quality.count_masked(mask, ignored, blotted, 5.0)
    assert (found.masked, found.pixels, found.groups) == (14, 30_000, 2)
    assert (found.masked_on_stars, found.on_stars) == (2, 9)
    assert found.in_dark == pytest.approx(7500, abs=10)
    assert found.fraction == pytest.approx(14 / 30_000)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.4), (1.5, 2.25), (-3.0, 1.0)])
def test_the_exposure_beside_the_others_is_found_with_its_offset(shift):
    rng = np.random.default_rng(4)
    sky_with_stars = np.zeros((300, 300))
    sky_with_stars[rng.integers(10, 290, 200), rng.integers(10, 290, 200)] = 10 ** rng.uniform(2, 4.5, 200)
    images = []
    for offset in ((0, 0), shift, (0, 0)):
        seen = ndimage.gaussian_filter(ndimage.shift(sky_with_stars, offset, order=3), 1.2)
        seen = seen + rng.normal(50, 6, seen.shape)
        seen[rng.random(seen.shape) < 0.01] += 800
        seen[:7] = 0
        images.append(seen.astype(np.float32))
    found = quality.offsets(images)
    np.testing.assert_allclose(found[1], shift, atol=0.15)
    np.testing.assert_allclose(found[[0, 2]], 0, atol=0.15)


# Report


def test_the_report_shows_stamps_and_lists_every_exposure(built, tmp_path):
    written = overview.write_report(built, tmp_path)
    assert [path.name for path in written] == ["stamps.png", "histograms.png", "report.md"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[:2])
    told = written[2].read_text()
    for visit in built.manifest.visits:
        for one in visit.record.exposures:
            assert f"| {one.name} |" in told
    assert "| extragalactic | 45 | 15 | 0 | 15 |" in told
    again = overview.write_report(built, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_what_came_of_a_visit_is_one_line(built):
    record = built.manifest.visits[0].record
    told = overview.sentence(record)
    assert re.fullmatch(r"3 exposures, 75 stamps, 1\.\d\d% of the pixels masked, 1\.\d\d cosmic rays per cm2 and s", told)
    out = Rejected(what="x", reason="its background is odd")
    assert (
        overview.sentence(record.model_copy(update={"rejected": [out]})) == f"{told}; x is left out: its background is odd"
    )
    lost = record.model_copy(update={"rejected": [out], "rejection": "1 of 2 exposures is sound", "exposures": []})
    assert overview.sentence(lost) == "1 of 2 exposures is sound; x is left out: its background is odd"


def test_the_report_tells_what_was_not_used_and_what_is_missing(built):
    lacking = built.manifest.model_copy(
        update={"rejected": [Rejected(what="x_flc.fits", reason="is truncated")], "missing": ["10420-01: 3 exposures"]}
    )
    told = overview.text(lacking)
    assert "|  | x_flc.fits | is truncated |" in told
    assert "- 10420-01: 3 exposures" in told
