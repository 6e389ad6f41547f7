"""Confidence intervals: figures of resampled blocks of sky, the same blocks for all methods that are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.blocks import SkyBlocks
from deepcr_zoo.bench.measures.lacosmic import interpolate
from deepcr_zoo.bench.measures.tally import Tally
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


CLASSES = 2
"""Group of a pixel in a tally by block and class: 2 x block, and 1 more if it is of a cosmic ray."""

SLICE = 128
"""Resamplings at a time: their FPRs at all thresholds of a network's take 4 MiB."""


def tprs_at(tally: Tally, weights: Values, fpr: float, *, interpolated: bool) -> Values:
    """TPR at a fixed FPR in each resampling.

    Parameters
    ----------
    tally : Tally
        By block and class: 2 B groups.
    weights : ndarray of float64, shape (R, B)
        How often each block counts in each resampling (`resample`).
    fpr : float
    interpolated : bool
        Between the thresholds, as for a sweep of sigclip (`lacosmic.interpolate`). Otherwise the largest TPR of the
        thresholds whose FPR is not above `fpr`, as for a network (`roc.RocCurve.at_fpr`), whose thresholds are many.

    Returns
    -------
    ndarray of float64, shape (R,)
        NaN where the thresholds do not reach `fpr`, or the pixels of a class are missing.
    """
    if weights.shape[1:] != (len(tally.pixels) // CLASSES,):
        raise ValueError(f"weights of {weights.shape[1:]} blocks: expected those of {len(tally.pixels) // CLASSES}")
    choose = _interpolated if interpolated else _largest
    slices = [choose(tally, weights[first : first + SLICE], fpr) for first in range(0, len(weights), SLICE)]
    return np.concatenate(slices) if slices else np.zeros(0)


def _interpolated(tally: Tally, weights: Values, fpr: float) -> Values:
    rates = zip(_rates(tally, weights, 0), _rates(tally, weights, 1), strict=True)
    points = [interpolate(tally.thresholds, fprs, tprs, fpr) for fprs, tprs in rates]
    return np.array([np.nan if point is None else point.tpr for point in points])


def _largest(tally: Tally, weights: Values, fpr: float) -> Values:
    """Of the lowest threshold that keeps the FPR: both rates fall with the threshold."""
    keeps = _rates(tally, weights, 0) <= fpr
    first = keeps.argmax(axis=1)
    masked = (weights * tally.masked[1::CLASSES, first].T).sum(axis=1)
    tprs = _ratio(masked, weights @ tally.pixels[1::CLASSES])
    return np.where(keeps.any(axis=1), tprs, np.nan)


def _rates(tally: Tally, weights: Values, which: int) -> Values:
    """Share of the pixels of a class that is masked, shape (R, T)."""
    masked = weights @ tally.masked[which::CLASSES].astype(np.float64)
    return _ratio(masked, (weights @ tally.pixels[which::CLASSES])[:, None])


def _ratio(part: Values, whole: Values) -> Values:
    ratio: Values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio
