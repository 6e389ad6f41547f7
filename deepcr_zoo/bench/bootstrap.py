"""Confidence intervals: figures of resampled blocks of sky, the same blocks for all methods that are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.blocks import SkyBlocks
from deepcr_zoo.bench.results import Interval

LEAST_BLOCKS = 8
"""Fewer tell too little of how figures vary."""

LEVEL = 0.95

Values = NDArray[np.float64]


def resample(blocks: SkyBlocks, resamplings: int, seed: int) -> Values:
    """How often each block counts in each resampling, shape (R, B).

    Of the n blocks of a visit n - 1 are drawn with replacement and count n / (n - 1) times, so that the variance of a mean
    is that of n independent blocks, however few they are (Rao & Wu 1988, JASA 83, 231, with m = n - 1; from memory). The
    only block of a visit always counts once: visits are not resampled, so intervals tell of these visits alone.
    """
    random = np.random.default_rng(seed)
    weights = np.ones((resamplings, blocks.count))
    for visit in np.unique(blocks.visits):
        members = np.flatnonzero(blocks.visits == visit)
        count = len(members)
        if count > 1:
            drawn = random.multinomial(count - 1, np.full(count, 1 / count), size=resamplings)
            weights[:, members] = drawn * (count / (count - 1))
    return weights


def interval(values: Values, blocks: int) -> Interval | None:
    """The middle 95 % of a figure's resampled values.

    None of fewer than 8 blocks, or where a resampling did not give the figure (NaN).
    """
    if blocks < LEAST_BLOCKS or not np.isfinite(values).all():
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), blocks=blocks)
