"""The quality gate: ratios to a visit, and masks that cluster on stars."""

import numpy as np
import pytest

from deepcr_zoo.dataset import quality
from deepcr_zoo.dataset.quality import MaskCount


def test_ratios_are_to_what_is_usual_in_the_visit():
    assert quality.ratios_to_typical([1.0, 1.0, 5.0]) == [1.0, 1.0, 5.0]
    assert quality.ratios_to_typical([1.0, 4.0]) == [0.25, 4.0]
    assert quality.find_worst([1.0, 1.1, 0.3], 2.0) == 2
    assert quality.find_worst([0.6, 1.0, 1.9], 2.0) is None
    assert quality.find_worst(quality.ratios_to_typical([0.0, 1.0, 1.0]), 2.0) == 0
    assert quality.find_worst(quality.ratios_to_typical([0.0, 0.0, 0.0]), 2.0) == 0


def test_a_few_cosmic_rays_prove_no_other_rate():
    assert quality.chance_of_count(2, 5.0) == pytest.approx(37 / 2 * np.exp(-5))  # 1 + 5 + 25 / 2
    assert quality.chance_of_count(2, 1.0) == pytest.approx(1 - 2 * np.exp(-1))
    assert quality.chance_of_count(60, 140.0) < 1e-9
    assert quality.chance_of_count(0, 0.0) is None


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
