"""Confidence intervals by a bootstrap over blocks of sky, the same blocks for all methods that are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.blocks import SkyBlocks
from deepcr_zoo.bench.measures.lacosmic import interpolate
from deepcr_zoo.bench.measures.tally import Tally
from deepcr_zoo.bench.results import Interval

LEAST_BLOCKS = 8
"""Fewer blocks say too little about how figures vary."""

LEVEL = 0.95

CLASSES = 2
"""Groups of a tally by block and class: 2 x block, and 1 more for cosmic-ray pixels."""

SLICE = 128
"""Resamplings at a time: their FPRs at all thresholds of a network take 4 MiB."""

Values = NDArray[np.float64]


def resample(blocks: SkyBlocks, resamplings: int, seed: int) -> Values:
    """Return how often each block counts in each resampling, shape (R, B).

    Of the n blocks of a visit n - 1 are drawn with replacement and count n / (n - 1) times. So the variance of a mean is
    that of n independent blocks, however few there are (Rao & Wu 1988, JASA 83, 231, with m = n - 1; from memory). The only
    block of a visit always counts once: visits are not resampled, so intervals hold for these visits alone.
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
    """Return the middle 95 % of a figure's resampled values.

    It is None for fewer than 8 blocks, or where a resampling gives no figure (NaN).
    """
    if blocks < LEAST_BLOCKS or not np.isfinite(values).all():
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), blocks=blocks)


def tprs_at(tally: Tally, weights: Values, fpr: float, *, interpolated: bool) -> Values:
    """Return the TPR at a fixed FPR in each resampling, shape (R,); NaN where the method does not reach the FPR.

    The tally is by block and class. TPRs of a sweep of sigclip are interpolated between its thresholds
    (`lacosmic.interpolate`). Networks have many thresholds: theirs is the largest TPR whose FPR is not above `fpr`
    (`roc.RocCurve.at_fpr`).
    """
    if weights.shape[1:] != (len(tally.pixels) // CLASSES,):
        raise ValueError(f"weights of {weights.shape[1:]} blocks: expected those of {len(tally.pixels) // CLASSES}")
    choose = _interpolated if interpolated else _largest
    slices = [choose(tally, weights[first : first + SLICE], fpr) for first in range(0, len(weights), SLICE)]
    return np.concatenate(slices) if slices else np.zeros(0)


def strictest_tprs(tally: Tally, weights: Values) -> Values:
    """Return the TPR at the highest threshold in each resampling, shape (R,)."""
    hits = weights @ tally.masked[1::CLASSES, -1].astype(np.float64)
    return _ratio(hits, weights @ tally.pixels[1::CLASSES])


def _interpolated(tally: Tally, weights: Values, fpr: float) -> Values:
    rates = zip(_rates(tally, weights, 0), _rates(tally, weights, 1), strict=True)
    points = [interpolate(tally.thresholds, fprs, tprs, fpr) for fprs, tprs in rates]
    return np.array([np.nan if point is None else point.tpr for point in points])


def _largest(tally: Tally, weights: Values, fpr: float) -> Values:
    keeps = _rates(tally, weights, 0) <= fpr
    first = keeps.argmax(axis=1)  # both rates fall with the threshold
    masked = (weights * tally.masked[1::CLASSES, first].T).sum(axis=1)
    tprs = _ratio(masked, weights @ tally.pixels[1::CLASSES])
    return np.where(keeps.any(axis=1), tprs, np.nan)


def _rates(tally: Tally, weights: Values, which: int) -> Values:
    """Return the share of a class that is masked, shape (R, T)."""
    masked = weights @ tally.masked[which::CLASSES].astype(np.float64)
    return _ratio(masked, (weights @ tally.pixels[which::CLASSES])[:, None])


def _ratio(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
