"""True and false positives at every threshold, counted exactly.

A pixel is masked where its score, the logit of a network, is **above** the threshold, as in `MaskModel.mask`. Pixels of
equal score are masked together: a tie is one step. Ignored pixels are in neither count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcr_zoo.errors import InvalidImageError

Scores = NDArray[np.float32]
Counts = NDArray[np.int64]

EXACT_BITS = 24
"""Significant bits of a float32."""

LOWEST = np.finfo(np.float32).min
"""Replaces a score of minus infinity (a pixel without a value): no threshold masks it."""

MAX_THRESHOLDS = 2**24
"""Default limit of distinct scores, 20 bytes each."""

POINTS_PER_DECADE = 50


@dataclass(frozen=True)
class RocPoint:
    """A threshold, and the shares of clean (`fpr`) and cosmic-ray pixels (`tpr`) whose score is above it."""

    threshold: float
    fpr: float
    tpr: float


@dataclass(frozen=True, eq=False)
class RocCounts:
    """Pixels at every distinct score, ascending; `merge` adds up the counts of several images.

    `significant_bits` is 24 if every distinct score is kept. Below that, scores were rounded up to that many bits: the
    counts above each remaining score are still exact, but there are fewer thresholds to choose from.
    """

    scores: Scores
    cosmic_rays: Counts
    clean: Counts
    ignored: int
    significant_bits: int = EXACT_BITS

    def curve(self) -> RocCurve:
        """Return the counts above every threshold."""
        scores, cosmic_rays, clean = self.scores[::-1], self.cosmic_rays[::-1], self.clean[::-1]
        if not scores.size or scores[-1] != LOWEST:  # the threshold that masks everything
            scores = np.append(scores, LOWEST)
            cosmic_rays, clean = np.append(cosmic_rays, 0), np.append(clean, 0)
        true_positives, false_positives = np.cumsum(cosmic_rays) - cosmic_rays, np.cumsum(clean) - clean
        return RocCurve(scores, true_positives, false_positives, int(cosmic_rays.sum()), int(clean.sum()))


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Cosmic-ray and clean pixels above every threshold, from the highest, which masks nothing, down to `LOWEST`.

    Without pixels of both classes `at_fpr`, `area` and `average_precision` are None and there are no `points`.
    """

    thresholds: Scores
    true_positives: Counts
    false_positives: Counts
    cosmic_rays: int
    clean: int

    @property
    def is_defined(self) -> bool:
        """True if there are pixels of both classes."""
        return self.cosmic_rays > 0 and self.clean > 0

    def at_fpr(self, fpr: float) -> RocPoint | None:
        """Return the point of the largest TPR among the thresholds whose FPR is not above `fpr`.

        If several share this TPR, it is the one of the lowest FPR. It is not interpolated: it is a threshold that users can
        set, and its FPR holds on these pixels, ties included.
        """
        if not self.is_defined:
            return None
        return self._point(self._best(np.array([fpr]))[0])

    def at_tpr(self, tpr: float) -> RocPoint | None:
        """Return the point of the lowest FPR among the thresholds whose TPR is not below `tpr`."""
        if not self.is_defined:
            return None
        index = np.searchsorted(self.true_positives / self.cosmic_rays, tpr, side="left")
        # the lowest threshold of all masks everything but pixels without a value
        return self._point(index) if index < self.thresholds.size else None

    def area(self) -> float | None:
        """Return the area under the curve: the chance that a cosmic ray scores above a clean pixel, ties counted half."""
        if not self.is_defined:
            return None
        true, false = np.append(self.true_positives, self.cosmic_rays), np.append(self.false_positives, self.clean)
        doubled = np.sum(np.diff(false) * (true[1:] + true[:-1]))  # in integers, and so exact
        return int(doubled) / (2 * self.cosmic_rays * self.clean)

    def average_precision(self) -> float | None:
        """Return the mean precision over steps of the TPR, each taken at its lower threshold."""
        if not self.is_defined:
            return None
        true, false = np.append(self.true_positives, self.cosmic_rays), np.append(self.false_positives, self.clean)
        precision = true[1:] / np.maximum(true[1:] + false[1:], 1)
        return float(np.sum(np.diff(true) * precision) / self.cosmic_rays)

    def points(self) -> list[RocPoint]:
        """Return the points of `at_fpr` at 50 FPRs per decade, from one clean pixel to all, to draw the curve."""
        if not self.is_defined:
            return []
        decades = np.log10(self.clean)
        fprs = np.logspace(-decades, 0, int(np.ceil(decades * POINTS_PER_DECADE)) + 1)
        return [self._point(index) for index in np.unique([*self._best(np.array([0.0])), *self._best(fprs)])]

    def _best(self, fprs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the indices of the thresholds that `at_fpr` chooses."""
        # divided, not compared with fpr x clean: 29 of 100 is 0.29, but 0.29 x 100 is below 29
        last = np.searchsorted(self.false_positives / self.clean, fprs, side="right") - 1
        return np.searchsorted(self.true_positives, self.true_positives[last], side="left")

    def _point(self, index: np.intp) -> RocPoint:
        tpr = int(self.true_positives[index]) / self.cosmic_rays
        return RocPoint(float(self.thresholds[index]), float(self.false_positives[index] / self.clean), tpr)


def count(scores: Scores, cosmic_rays: ArrayLike, ignore: ArrayLike | None = None, limit: int = MAX_THRESHOLDS) -> RocCounts:
    """Count pixels by score and class; above `limit` distinct scores, scores lose significant bits.

    Masks hold booleans, or 0 and 1. Give logits, not probabilities: these tie where they round to 0 or 1.
    """
    if scores.dtype != np.float32:
        raise InvalidImageError(f"the scores are {scores.dtype}: expected float32, the logits of a network")
    labels = _as_flags(cosmic_rays, scores.shape, "CR mask")
    counted = np.ones(scores.shape, bool) if ignore is None else ~_as_flags(ignore, scores.shape, "ignore mask")
    values, labels = np.maximum(scores[counted], LOWEST), labels[counted]
    if not (values < np.inf).all():
        raise InvalidImageError("a pixel that counts has a score of NaN or infinity: expected a number, or to ignore it")
    cosmic_ray_scores, cosmic_ray_counts = np.unique(values[labels], return_counts=True)
    clean_scores, clean_counts = np.unique(values[~labels], return_counts=True)
    return merge(
        [
            RocCounts(cosmic_ray_scores, cosmic_ray_counts, np.zeros_like(cosmic_ray_counts), scores.size - values.size),
            RocCounts(clean_scores, np.zeros_like(clean_counts), clean_counts, 0),
        ],
        limit,
    )


def merge(parts: Iterable[RocCounts], limit: int = MAX_THRESHOLDS) -> RocCounts:
    """Add up the counts of several images, two at a time in memory; no parts give counts of no pixels."""
    merged = RocCounts(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    for part in parts:
        merged = _rounded_up(_joined(merged, part), min(merged.significant_bits, part.significant_bits))
        while merged.scores.size > limit and merged.significant_bits > 1:
            merged = _rounded_up(merged, merged.significant_bits - 1)
    return merged


def _joined(first: RocCounts, second: RocCounts) -> RocCounts:
    """Return the scores of both, unsorted and with duplicates."""
    return RocCounts(
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.cosmic_rays, second.cosmic_rays]),
        np.concatenate([first.clean, second.clean]),
        first.ignored + second.ignored,
    )


def _rounded_up(counts: RocCounts, bits: int) -> RocCounts:
    """Return distinct, ascending scores of `bits` significant bits."""
    scores = counts.scores
    if bits < EXACT_BITS:
        # up, never down: a pixel is above a remaining score exactly if it was above it before
        mantissa, exponent = np.frexp(scores)
        scores = np.where(scores == LOWEST, LOWEST, np.ldexp(np.ceil(np.ldexp(mantissa, bits)), exponent - bits))
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: scores.size])

    def summed(pixels: Counts) -> Counts:
        return np.add.reduceat(pixels[order], starts) if starts.size else pixels

    return RocCounts(scores[starts], summed(counts.cosmic_rays), summed(counts.clean), counts.ignored, bits)


def _as_flags(mask: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    """Return a mask of booleans, or of 0 and 1, as booleans."""
    flags = np.asarray(mask)
    if flags.shape != shape:
        raise InvalidImageError(f"the {name} has shape {flags.shape}: expected {shape}, the shape of the scores")
    if flags.dtype.kind not in "bui" or (flags.dtype.kind != "b" and not np.isin(flags, (0, 1)).all()):
        raise InvalidImageError(f"the {name} holds other values than 0 and 1: expected a mask")
    return flags.astype(bool)
