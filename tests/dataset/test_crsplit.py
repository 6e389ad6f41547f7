"""Labels from pairs of exposures: what one has and the other has not, and nothing that cannot be told."""

import numpy as np
import pytest

from deepcr_zoo.dataset.crsplit import PairTest, RepeatedExposure, hot_pixels, label_pair, read_pair
from deepcr_zoo.errors import DataError
from tests.conftest import CHECKOUT

SHAPE = (120, 140)
NOISE = 5.0
REAL = CHECKOUT.parent / "shared" / "data" / "stis_crsplit"
NO_HOT = np.zeros(SHAPE, bool)


def scene():
    """Sky, a bright spectrum along a row, and a slope."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 20.0 + 3000 * np.exp(-((rows - 60) ** 2) / 18) + 0.1 * columns


def exposed(seed, time=1.0, factor=1.0):
    random = np.random.default_rng(seed)
    image = random.poisson(scene() * time * factor) + random.normal(0, NOISE, SHAPE)
    return image.astype(np.float32)


def pair(first, second, times=(1000.0, 1000.0)):
    usable = np.ones(SHAPE, bool)
    return [RepeatedExposure(image, usable, time, NOISE) for image, time in zip((first, second), times, strict=True)]


def struck(image, seed, count=25):
    """Tracks of 6 pixels; gives the image and where they are."""
    random = np.random.default_rng(seed)
    hit = np.zeros(SHAPE, bool)
    for row, column in zip(random.integers(5, SHAPE[0] - 5, count), random.integers(5, SHAPE[1] - 12, count), strict=True):
        hit[row, column : column + 6] = True
    return image + np.float32(600) * hit, hit


def test_what_one_exposure_has_and_its_partner_has_not_is_a_cosmic_ray():
    first, hit = struck(exposed(1), 3)
    label, of_partner = label_pair(*pair(first, exposed(2)), NO_HOT, PairTest())
    counted = ~label.ignore
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    assert label.cosmic_rays[hit & counted & dark].mean() > 0.95
    assert label.cosmic_rays[~hit & counted].mean() < 0.005
    assert of_partner.cosmic_rays.sum() < 20


def test_exposures_of_other_length_and_a_spectrum_that_drifts_are_no_cosmic_rays():
    first, second = exposed(1), exposed(2, time=0.5, factor=1.03)
    labels = label_pair(*pair(first, second, (1000.0, 500.0)), NO_HOT, PairTest())
    for label in labels:
        assert label.cosmic_rays.mean() < 0.003


def test_what_both_may_have_been_hit_by_is_ignored():
    first, hit = struck(exposed(1), 3)
    second, _ = struck(exposed(2), 3)
    second += np.float32(900) * hit  # the partner's are brighter: it hides those of the first
    label, of_partner = label_pair(*pair(first, second), NO_HOT, PairTest())
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    assert label.both_hit[hit & dark].mean() > 0.9
    assert not (label.cosmic_rays & label.ignore).any()
    assert of_partner.cosmic_rays[hit & dark].mean() > 0.9


def test_hot_pixels_are_those_of_most_exposures_and_are_ignored():
    hot = np.zeros(SHAPE, bool)
    hot[10::20, 15::20] = True
    images = [struck(exposed(seed) + np.float32(400) * hot, seed)[0] for seed in range(5)]
    exposures = [one for image in images for one in pair(image, image)[:1]]
    found = hot_pixels(exposures, PairTest())
    assert (found & hot).sum() == hot.sum()
    assert (found & ~hot).mean() < 0.002
    label, _ = label_pair(*exposures[:2], found, PairTest())
    assert label.ignore[hot].all()
    assert not label.cosmic_rays[hot].any()


def test_exposures_of_two_detectors_are_refused():
    one = pair(exposed(1), exposed(2))[0]
    with pytest.raises(DataError, match="expected those of one detector"):
        label_pair(one, RepeatedExposure(one.image[:50], one.usable[:50], 1000.0, NOISE), NO_HOT, PairTest())


def test_real_exposures_have_a_plausible_number_of_cosmic_rays():
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is absent: real STIS exposures are not part of the project")
    pairs = [read_pair(path) for path in sorted(REAL.glob("*_raw.fits"))]
    hot = hot_pixels([one for pair in pairs for one in pair], PairTest())
    for exposure, label in zip(pairs[3], label_pair(*pairs[3], hot, PairTest()), strict=True):
        assert 3 < exposure.read_noise_electron < 9
        assert 0.01 < label.cosmic_rays[~label.ignore].mean() < 0.12
        assert label.ignore[exposure.usable].mean() < 0.12
        assert 0.5 < label.rate(exposure) < 3
