"""Resampled blocks of sky: intervals cover the answer in a simulation, where those of a bootstrap over pixels would not."""

import numpy as np
import pytest
from scipy.stats import norm

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.blocks import SkyBlocks
from deepcr_zoo.bench.measures.bootstrap import interval, resample, tprs_at
from deepcr_zoo.bench.measures.lacosmic import Sweep, interpolate
from deepcr_zoo.bench.measures.tally import LOGIT_EDGES, NO_GROUP, Tally, logit_bins, tally_logits, tally_masks
from deepcr_zoo.bench.measures.tracks import class_group

FPRS = (0.001, 0.01, 0.05, 0.3)
SIGCLIPS = (0.5, 1.0, 1.5, 2.0, 2.5)


def blocks_of(*visits):
    return SkyBlocks({}, np.repeat(np.arange(len(visits)), visits))


def test_of_the_n_blocks_of_a_visit_n_minus_1_are_drawn_and_count_for_n():
    weights = resample(blocks_of(5, 3), 400, seed=1)
    assert weights.shape == (400, 8)
    for members, count in ((weights[:, :5], 5), (weights[:, 5:], 3)):
        drawn = members * (count - 1) / count
        np.testing.assert_allclose(drawn, np.round(drawn), atol=1e-12)
        np.testing.assert_allclose(drawn.sum(axis=1), count - 1)
        assert drawn.max() > 1


def test_a_mean_varies_as_that_of_independent_blocks():
    values = np.random.default_rng(2).normal(size=6)
    means = resample(blocks_of(6), 40_000, seed=3) @ values / 6
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.var() == pytest.approx(values.var(ddof=1) / 6, rel=0.03)  # with n draws it were 5/6 of that


def test_the_only_block_of_a_visit_always_counts_once():
    weights = resample(blocks_of(1, 4, 1), 50, seed=4)
    assert (weights[:, [0, 5]] == 1).all()
    assert (weights[:, 1:5] != 1).any()


def test_the_same_seed_draws_the_same_blocks_whatever_is_compared():
    np.testing.assert_array_equal(resample(blocks_of(9), 20, seed=5), resample(blocks_of(9), 20, seed=5))
    assert (resample(blocks_of(9), 20, seed=5) != resample(blocks_of(9), 20, seed=6)).any()


def test_an_interval_is_the_middle_95_per_cent():
    found = interval(np.arange(1001) / 1000, 8)
    assert (found.low, found.high, found.blocks) == (pytest.approx(0.025), pytest.approx(0.975), 8)


def test_there_is_no_interval_of_fewer_than_8_blocks_or_where_a_resampling_gives_no_figure():
    values = np.arange(100.0)
    assert interval(values, 7) is None
    assert interval(np.append(values, np.nan), 50) is None


@pytest.fixture(scope="module")
def judged():
    """Logits, labels, ignore mask and block of stamps; logits are multiples of 1/64, as the edges of bins are."""
    random = np.random.default_rng(1)
    cosmic_rays, ignore = random.random((2, 12, 40, 40)) < [[[[0.1]]], [[[0.05]]]]
    logits = np.round(random.normal(2.0 * cosmic_rays, 1.0) * 64) / 64
    return logits.astype(np.float32), cosmic_rays, ignore, np.repeat(np.arange(4), 3)


def of_network(judged):
    logits, cosmic_rays, ignore, blocks = judged
    return tally_logits(logit_bins(logits), class_group(cosmic_rays, ignore, blocks), 8)


def of_sweep(judged):
    logits, cosmic_rays, ignore, blocks = judged
    masks = [logits > sigclip for sigclip in SIGCLIPS]
    return tally_masks(masks, SIGCLIPS, class_group(cosmic_rays, ignore, blocks), 8)


def test_the_group_of_a_pixel_tells_block_and_class_unless_it_is_ignored(judged):
    _, cosmic_rays, ignore, blocks = judged
    groups = class_group(cosmic_rays, ignore, blocks)
    assert (groups == NO_GROUP).sum() == ignore.sum()
    assert (groups[7][~ignore[7]] == 4 + cosmic_rays[7][~ignore[7]]).all()


@pytest.mark.parametrize("fpr", FPRS)
def test_where_every_block_counts_once_the_tpr_of_a_network_is_that_of_its_curve(judged, fpr):
    point = roc.count(*judged[:3]).curve().at_fpr(fpr)
    assert tprs_at(of_network(judged), np.ones((2, 4)), fpr, interpolated=False).tolist() == [point.tpr] * 2


@pytest.mark.parametrize("fpr", FPRS)
def test_where_every_block_counts_once_the_tpr_of_a_sweep_is_its_own(judged, fpr):
    point = Sweep(of_sweep(judged).summed(2)).at_fpr(fpr)
    found = tprs_at(of_sweep(judged), np.ones((2, 4)), fpr, interpolated=True)
    np.testing.assert_array_equal(found, [point.tpr if point else np.nan] * 2)
    assert (point is None) == (fpr in (0.001,))


@pytest.mark.parametrize("interpolated", [False, True])
def test_a_block_that_counts_twice_is_as_two_of_it(judged, interpolated):
    logits, cosmic_rays, ignore, blocks = judged
    weights = np.array([[0.0, 2.0, 1.0, 1.0]])
    chosen = np.concatenate([np.flatnonzero(blocks == number) for number in (1, 1, 2, 3)])
    resampled = (logits[chosen], cosmic_rays[chosen], ignore[chosen], blocks[chosen])
    tally_of = of_sweep if interpolated else of_network
    expected = tprs_at(tally_of(resampled), np.ones((1, 4)), 0.03, interpolated=interpolated)
    found = tprs_at(tally_of(judged), weights, 0.03, interpolated=interpolated)
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_sweep_of_a_tally_has_all_its_counts(judged):
    logits, cosmic_rays, ignore, _ = judged
    found = Sweep(of_sweep(judged).summed(2))
    assert (found.clean, found.cosmic_rays) == ((~cosmic_rays & ~ignore).sum(), (cosmic_rays & ~ignore).sum())
    for number, sigclip in enumerate(SIGCLIPS):
        mask = (logits > sigclip) & ~ignore
        assert found.classes.masked[1, number] == (mask & cosmic_rays).sum()
        assert found.classes.masked[0, number] == (mask & ~cosmic_rays).sum()


@pytest.mark.parametrize("interpolated", [False, True])
def test_what_thresholds_do_not_reach_or_pixels_do_not_tell_is_no_number(judged, interpolated):
    tally = of_sweep(judged)
    assert np.isnan(tprs_at(tally, np.ones((1, 4)), 1e-6, interpolated=interpolated)).all()
    for missing in (0, 1):
        pixels, masked = tally.pixels.copy(), tally.masked.copy()
        pixels[missing::2], masked[missing::2] = 0, 0
        found = tprs_at(Tally(tally.thresholds, masked, pixels), np.ones((1, 4)), 0.05, interpolated=interpolated)
        assert np.isnan(found).all()


def test_weights_of_other_blocks_are_refused(judged):
    with pytest.raises(ValueError, match="expected those of 4"):
        tprs_at(of_network(judged), np.ones((1, 3)), 0.01, interpolated=False)


# The simulation: scores of a block have a common offset, so its pixels are not independent.

BLOCKS, PIXELS, RESAMPLINGS, DATASETS = 40, 100, 200, 200
FPR = 0.1
RISE = 2.5
CLEAN_SPREAD, RAY_SPREAD = 0.4, 0.6
FIRST_NOISE, SECOND_NOISE = 1.0, 1.3
LEVELS = tuple(np.arange(0.4, 4.1, 0.4))
EDGES = LOGIT_EDGES[(LOGIT_EDGES >= 0.5) & (LOGIT_EDGES <= 2.5)]  # around that of this FPR


def draw(random):
    """Scores of clean pixels and of those of cosmic rays by both methods, which see the same blocks: (2, B, N) each."""
    offsets = random.normal(0, 1, (2, BLOCKS, 1)) * [[[CLEAN_SPREAD]], [[RAY_SPREAD]]]
    noise = random.normal(0, 1, (2, 2, BLOCKS, PIXELS)) * [[[[FIRST_NOISE]]], [[[SECOND_NOISE]]]]
    clean, rays = (offsets + noise).transpose(1, 0, 2, 3)
    return clean, rays + RISE


def tallies(clean, rays):
    """Count the first method as a network, the second as a sweep."""
    scores = np.concatenate([clean, rays], axis=2).astype(np.float32)
    labels = np.arange(2 * PIXELS)[None] >= PIXELS
    groups = 2 * np.arange(BLOCKS)[:, None] + labels
    network = tally_logits(logit_bins(scores[0]), groups, 2 * BLOCKS)
    inner = np.isin(LOGIT_EDGES, EDGES)
    network = Tally(EDGES, network.masked[:, inner], network.pixels)
    return network, tally_masks([scores[1] > level for level in LEVELS], LEVELS, groups, 2 * BLOCKS)


def answers():
    """Return both TPRs for infinitely many blocks."""
    clean, rays = np.hypot(FIRST_NOISE, CLEAN_SPREAD), np.hypot(FIRST_NOISE, RAY_SPREAD)
    network = norm.sf((norm.isf(FPR) * clean - RISE) / rays)
    clean, rays = np.hypot(SECOND_NOISE, CLEAN_SPREAD), np.hypot(SECOND_NOISE, RAY_SPREAD)
    levels = np.array(LEVELS)
    return network, interpolate(levels, norm.sf(levels / clean), norm.sf((levels - RISE) / rays), FPR).tpr


def covers(found, answer):
    return found.low <= answer <= found.high


def test_intervals_cover_the_known_answer_of_each_method_and_of_their_paired_difference():
    random = np.random.default_rng(7)
    blocks = SkyBlocks({}, np.zeros(BLOCKS, np.intp))
    expected = np.array(answers())
    covered = []
    for number in range(DATASETS):
        weights = resample(blocks, RESAMPLINGS, seed=number)
        network, sweep = tallies(*draw(random))
        first = tprs_at(network, weights, FPR, interpolated=False)
        second = tprs_at(sweep, weights, FPR, interpolated=True)
        figures = zip((first, second, first - second), (*expected, expected[0] - expected[1]), strict=True)
        covered.append([covers(interval(values, BLOCKS), answer) for values, answer in figures])
    shares = np.mean(covered, axis=0)
    assert (shares >= 0.90).all(), shares
    assert (shares <= 0.99).all(), shares


def test_a_bootstrap_over_pixels_or_without_pairs_would_mislead():
    random = np.random.default_rng(8)
    blocks = SkyBlocks({}, np.zeros(BLOCKS, np.intp))
    expected, covered, widths = answers(), [], []
    for number in range(40):
        network, sweep = tallies(*draw(random))
        covered.append(covers(interval(of_pixels(network, random), BLOCKS), expected[0]))
        drawn, others = (resample(blocks, RESAMPLINGS, seed) for seed in (number, 1000 + number))
        first = tprs_at(network, drawn, FPR, interpolated=False)
        paired, unpaired = (np.std(first - tprs_at(sweep, one, FPR, interpolated=True)) for one in (drawn, others))
        widths.append(unpaired / paired)
    assert np.mean(covered) < 0.80
    assert np.mean(widths) > 1.2


def of_pixels(network, random):
    """The TPR in each resampling of pixels, as if they were independent."""
    rates = []
    for which in (0, 1):
        above, pixels = network.masked[which::2].sum(axis=0), network.pixels[which::2].sum()
        bins = -np.diff([pixels, *above, 0])
        drawn = random.multinomial(pixels, bins / pixels, RESAMPLINGS)
        rates.append(drawn[:, ::-1].cumsum(axis=1)[:, -2::-1] / pixels)
    fprs, tprs = rates
    return tprs[np.arange(RESAMPLINGS), (fprs <= FPR).argmax(axis=1)]
