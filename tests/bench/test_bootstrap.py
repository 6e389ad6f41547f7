import numpy as np
import pytest

from deepcr_zoo.bench.measures.blocks import SkyBlocks
from deepcr_zoo.bench.measures.bootstrap import interval, resample


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
