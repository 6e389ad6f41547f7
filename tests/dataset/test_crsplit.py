"""Labels from repeated exposures: signal that only one of them has; ambiguous pixels are ignored."""

import numpy as np
import pytest

from deepcr_zoo.dataset.crsplit import RepeatedExposure, find_hot_pixels, label_repeats
from deepcr_zoo.errors import DataError
from deepcr_zoo.zoo.recipe import CrSplitBlock

SHAPE = (120, 140)
NOISE = 5.0
TEST = CrSplitBlock()
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
    return [
        RepeatedExposure(image, np.ones(SHAPE, bool), time, NOISE)
        for image, time in zip((first, second), times, strict=True)
    ]


def repeats(images):
    return [pair(image, image)[0] for image in images]


def struck(image, seed, count=25):
    """Add tracks of 6 pixels; return the image and their pixels."""
    random = np.random.default_rng(seed)
    hit = np.zeros(SHAPE, bool)
    for row, column in zip(random.integers(5, SHAPE[0] - 5, count), random.integers(5, SHAPE[1] - 12, count), strict=True):
        hit[row, column : column + 6] = True
    return image + np.float32(600) * hit, hit


def test_a_signal_in_one_exposure_of_a_pair_is_a_cosmic_ray():
    first, hit = struck(exposed(1), 3)
    label, of_partner = label_repeats(pair(first, exposed(2)), NO_HOT, TEST)
    counted = ~label.ignore
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    assert label.cosmic_rays[hit & counted & dark].mean() > 0.95
    assert label.cosmic_rays[~hit & counted].mean() < 0.005
    assert of_partner.cosmic_rays.sum() < 20


def test_exposures_of_other_length_and_a_spectrum_that_drifts_are_no_cosmic_rays():
    first, second = exposed(1), exposed(2, time=0.5, factor=1.03)
    labels = label_repeats(pair(first, second, (1000.0, 500.0)), NO_HOT, TEST)
    for label in labels:
        assert label.cosmic_rays.mean() < 0.003


def test_pixels_that_cosmic_rays_may_have_hit_in_both_exposures_are_ignored():
    first, hit = struck(exposed(1), 3)
    second, _ = struck(exposed(2), 3)
    second += np.float32(900) * hit  # the partner's are brighter: it hides those of the first
    label, of_partner = label_repeats(pair(first, second), NO_HOT, TEST)
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    assert label.hidden[hit & dark].mean() > 0.9
    assert not (label.cosmic_rays & label.ignore).any()
    assert of_partner.cosmic_rays[hit & dark].mean() > 0.9


def test_pixels_bright_in_most_exposures_are_hot_and_ignored():
    hot = np.zeros(SHAPE, bool)
    hot[10::20, 15::20] = True
    images = [struck(exposed(seed) + np.float32(400) * hot, seed)[0] for seed in range(5)]
    exposures = repeats(images)
    found = find_hot_pixels(exposures, TEST.hot_snr)
    assert (found & hot).sum() == hot.sum()
    assert (found & ~hot).mean() < 0.002
    label, _ = label_repeats(exposures[:2], found, TEST)
    assert label.ignore[hot].all()
    assert not label.cosmic_rays[hot].any()


def test_a_signal_in_one_exposure_of_a_pair_is_not_hot():
    first, hit = struck(exposed(1), 3)
    both = pair(first, exposed(2))
    hot = find_hot_pixels(both, TEST.hot_snr)
    assert not hot[hit].any()
    label, _ = label_repeats(both, hot, TEST)
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    assert label.cosmic_rays[hit & dark].mean() > 0.95


@pytest.mark.parametrize(("reference", "count"), [("median", 4), ("minimum", 3)])
def test_fewer_hits_hide_a_cosmic_ray_where_another_exposure_is_unusable(reference, count):
    images = [exposed(seed) for seed in range(count)]
    images[0][22, 40:46] += 400
    images[1][22, 40:46] += 2000
    exposures = repeats(images)
    exposures[2].usable[15:30, 30:50] = False
    label = label_repeats(exposures, NO_HOT, CrSplitBlock(reference=reference))[0]
    found = label.cosmic_rays | label.ignore
    assert found[22, 40:46].mean() > 0.9


def test_an_emission_line_and_a_narrow_spectrum_are_not_hot():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    line = 900 * np.exp(-((columns - 70) ** 2) / 2) * (np.abs(rows - 30) < 12)
    trace = 2000 * np.exp(-((rows - 95) ** 2) / 2)
    bright = (line > 100) | (trace > 100)
    images = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        images.append((random.poisson(20 + line + trace) + random.normal(0, NOISE, SHAPE)).astype(np.float32))
    assert find_hot_pixels(repeats(images), TEST.hot_snr)[bright].mean() < 0.01
    around = [image - 20 for image in images]
    assert all((one[bright] > 5 * np.sqrt(one[bright].clip(1))).mean() > 0.9 for one in around)  # they do stand out


@pytest.mark.parametrize("reference", ["median", "minimum"])
def test_a_hit_in_one_of_several_other_repeats_hides_nothing(reference):
    images, hits = zip(*(struck(exposed(seed), 3 if seed < 2 else 9) for seed in range(4)), strict=True)
    labels = label_repeats(repeats(images), NO_HOT, CrSplitBlock(reference=reference))
    dark = np.abs(np.arange(SHAPE[0]) - 60)[:, None] > 12
    twice = hits[0] & dark & ~hits[2]  # what the first two have and the other two have not
    assert labels[0].cosmic_rays[twice].mean() > (0.95 if reference == "minimum" else 0.85)
    assert all(label.cosmic_rays[~hit].mean() < 0.005 for label, hit in zip(labels, hits, strict=True))


def test_growing_reaches_the_faint_ends_of_a_track():
    image, hit = struck(exposed(1), 3)
    image[np.roll(hit, 7, axis=1) & ~hit] += np.float32(40)
    reach = [label_repeats(pair(image, exposed(2)), NO_HOT, CrSplitBlock(grow=grow))[0].cosmic_rays.sum() for grow in (1, 6)]
    assert reach[1] > reach[0]


def test_pixels_unusable_in_all_other_exposures_are_ignored():
    first, second = pair(exposed(1), exposed(2))
    second.usable[20:30, 20:30] = False
    label, _ = label_repeats([first, second], NO_HOT, TEST)
    assert label.ignore[20:30, 20:30].all()
    third = pair(exposed(3), exposed(3))[0]
    label, *_ = label_repeats([first, second, third], NO_HOT, TEST)
    assert not label.ignore[20:30, 20:30].any()


def test_exposures_of_two_detectors_are_refused():
    one = pair(exposed(1), exposed(2))[0]
    with pytest.raises(DataError, match="repeats are on the same pixels"):
        label_repeats([one, RepeatedExposure(one.image[:50], one.usable[:50], 1000.0, NOISE)], NO_HOT, TEST)


def test_one_exposure_alone_is_refused():
    with pytest.raises(DataError, match="expected two repeated exposures or more"):
        label_repeats(pair(exposed(1), exposed(2))[:1], NO_HOT, TEST)
