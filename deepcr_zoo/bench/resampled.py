"""TPR at a fixed FPR from tallies by block of sky and class, for many resamplings of the blocks at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.lacosmic import interpolate
from deepcr_zoo.bench.tally import Tally

CLASSES = 2
"""Group of a pixel in a tally by block and class: 2 x block, and 1 more if it is of a cosmic ray."""

SLICE = 128
"""Resamplings at a time: their FPRs at all thresholds of a network's take 4 MiB."""

Values = NDArray[np.float64]


def tprs_at(tally: Tally, weights: Values, fpr: float, *, interpolated: bool) -> Values:
    """TPR at a fixed FPR in each resampling.

    Parameters
    ----------
    tally : Tally
        By block and class: 2 B groups.
    weights : ndarray of float64, shape (R, B)
        How often each block counts in each resampling (`bootstrap.resample`).
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
