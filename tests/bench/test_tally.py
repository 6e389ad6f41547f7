import operator
from functools import reduce

import numpy as np
import pytest

from deepcr_zoo.bench.measures.tally import LOGIT_EDGES, NO_GROUP, Tally, logit_bins, tally_logits, tally_masks

SMALLEST = np.float32(1e-45)  # denormal
NEAR_EDGES = [
    np.nextafter(np.float32(edge), np.float32(towards))
    for edge in (-32, -1 / 64, 1 / 64, 0.5, 32)
    for towards in (-np.inf, edge, np.inf)
]


def test_logits_are_counted_as_brute_force_counts_them_ties_and_ignored_pixels_included():
    random = np.random.default_rng(1)
    fine = random.normal(0, 12, (3, 20, 20)).astype(np.float32)
    tied = random.choice(LOGIT_EDGES[1000:3000], fine.shape).astype(np.float32)
    logits = np.where(random.random(fine.shape) < 0.5, fine, tied)
    group = random.integers(-1, 4, fine.shape)
    group[group == 2] = 3  # an empty group
    found = tally_logits(logit_bins(logits), group, 4)
    for number in range(4):
        of_group = logits[group == number]
        np.testing.assert_array_equal(found.masked[number], [(of_group > edge).sum() for edge in LOGIT_EDGES])
        assert found.pixels[number] == of_group.size
    assert found.pixels[2] == 0
    assert found.pixels.sum() == (group != NO_GROUP).sum() < group.size


@pytest.mark.parametrize("logit", [*NEAR_EDGES, 0.0, -0.0, SMALLEST, -SMALLEST, np.inf, -np.inf, 3e38, -3e38, 63.99, 64.01])
def test_a_logit_is_above_an_edge_exactly_if_it_is_larger(logit):
    value = np.array([logit], np.float32)
    found = tally_logits(logit_bins(value), np.zeros(1, int), 1).masked[0]
    np.testing.assert_array_equal(found, value > LOGIT_EDGES)


def test_masks_are_counted_as_brute_force_counts_them():
    random = np.random.default_rng(2)
    masks = [random.random((2, 9, 9)) < share for share in (0.5, 0.2, 0.0)]
    group = random.integers(-1, 3, (2, 9, 9))
    found = tally_masks(masks, (2.5, 4.0, 6.3), group, 5)
    for number in range(5):
        assert found.masked[number].tolist() == [(mask & (group == number)).sum() for mask in masks]
    assert found.pixels.tolist() == [(group == number).sum() for number in range(5)]
    assert found.thresholds.tolist() == [2.5, 4.0, 6.3]


def test_tallies_of_images_add_up_to_that_of_all_of_them():
    random = np.random.default_rng(3)
    logits, group = random.normal(size=(4, 8, 8)).astype(np.float32), random.integers(-1, 3, (4, 8, 8))
    whole = tally_logits(logit_bins(logits), group, 3)
    parts = [tally_logits(logit_bins(one), of_one, 3) for one, of_one in zip(logits, group, strict=True)]
    together = reduce(operator.add, parts)
    np.testing.assert_array_equal(together.masked, whole.masked)
    np.testing.assert_array_equal(together.pixels, whole.pixels)
    with pytest.raises(ValueError, match="the same thresholds"):
        whole + Tally(LOGIT_EDGES[1:], whole.masked[:, 1:], whole.pixels)


def test_rates_are_exact_at_thresholds_straight_between_them_and_missing_beyond():
    masks = [np.array([True] * 8 + [False] * 2), np.array([True] * 4 + [False] * 6)]
    found = tally_masks(masks, (2.0, 4.0), np.zeros(10, int), 2)
    assert found.rates(2.0) == [0.8, None]
    assert found.rates(3.0) == [pytest.approx(0.6), None]
    assert [found.rates(threshold) for threshold in (1.9, 4.1, None)] == [[None, None]] * 3
