"""True and false positives at every threshold, counted exactly.

A pixel is masked where its score, the logit of a network, is **above** the threshold, as in `MaskModel.mask`. Pixels of
equal score are masked together or not at all: a tie is one step. Ignored pixels are in neither count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcr_zoo.errors import InvalidImageError
from deepcr_zoo.zoo.records import POOLED

Scores = NDArray[np.float32]
Tally = NDArray[np.int64]

EXACT_BITS = 24
"""Significant bits of a float32."""

LOWEST = np.finfo(np.float32).min
"""Stands for a score of minus infinity (a pixel without a value): no threshold masks it."""

MAX_THRESHOLDS = 2**24
"""Distinct scores that counts keep unless told otherwise, 20 bytes each."""

POINTS_PER_DECADE = 50


@dataclass(frozen=True)
class RocPoint:
    """What one threshold does.

    Attributes
    ----------
    threshold : float
        Pixels of a higher score are masked.
    fpr, tpr : float
        Shares of the clean and of the cosmic-ray pixels that are masked.
    """

    threshold: float
    fpr: float
    tpr: float


@dataclass(frozen=True, eq=False)
class RocCounts:
    """Pixels at every distinct score; counts of several images `merge` to those of all of them together.

    Attributes
    ----------
    scores : ndarray of float32
        Distinct, ascending.
    cosmic_rays, clean : ndarray of int64
        Pixels of each score, by class.
    ignored : int
        Pixels that are in neither.
    significant_bits : int
        24 if every distinct score is there. Below that scores were rounded up to so many bits: the counts above each
        score that is left are still exact, there are only fewer to choose from.
    """

    scores: Scores
    cosmic_rays: Tally
    clean: Tally
    ignored: int
    significant_bits: int = EXACT_BITS

    def curve(self) -> RocCurve:
        """The counts above every threshold."""
        scores, cosmic_rays, clean = self.scores[::-1], self.cosmic_rays[::-1], self.clean[::-1]
        if not scores.size or scores[-1] != LOWEST:  # the threshold that masks everything
            scores = np.append(scores, LOWEST)
            cosmic_rays, clean = np.append(cosmic_rays, 0), np.append(clean, 0)
        return RocCurve(
            thresholds=scores,
            true_positives=np.cumsum(cosmic_rays) - cosmic_rays,
            false_positives=np.cumsum(clean) - clean,
            cosmic_rays=int(cosmic_rays.sum()),
            clean=int(clean.sum()),
        )


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Counts above every threshold, from the highest threshold, which masks nothing, down.

    Without any cosmic-ray pixel there is no TPR and without any clean pixel no FPR: then `at_fpr` and `area` are None and
    there are no `points`.

    Attributes
    ----------
    thresholds : ndarray of float32
        Every distinct score, descending, and `LOWEST`.
    true_positives, false_positives : ndarray of int64
        Cosmic-ray and clean pixels whose score is above each threshold.
    cosmic_rays, clean : int
        Pixels of each class.
    """

    thresholds: Scores
    true_positives: Tally
    false_positives: Tally
    cosmic_rays: int
    clean: int

    @property
    def is_defined(self) -> bool:
        """Whether there are pixels of both classes."""
        return self.cosmic_rays > 0 and self.clean > 0

    @cached_property
    def _fprs(self) -> NDArray[np.float64]:
        # divided, not compared with fpr x clean: 29 of 100 is 0.29, but 0.29 x 100 is below 29
        return self.false_positives / self.clean

    def at_fpr(self, fpr: float) -> RocPoint | None:
        """The threshold of the largest TPR among those whose FPR is not above `fpr`.

        Of several with this TPR it is the one of the lowest FPR. Not interpolated: it is a threshold that one can set, and
        it keeps its promise on these pixels, ties included.
        """
        if not self.is_defined:
            return None
        return self._point(self._best(np.array([fpr]))[0])

    def area(self) -> float | None:
        """Area under the curve: the chance that a cosmic-ray pixel scores above a clean one, ties counted half."""
        if not self.is_defined:
            return None
        true, false = np.append(self.true_positives, self.cosmic_rays), np.append(self.false_positives, self.clean)
        doubled = np.sum(np.diff(false) * (true[1:] + true[:-1]))  # in integers, and so exact
        return int(doubled) / (2 * self.cosmic_rays * self.clean)

    def average_precision(self) -> float | None:
        """Area under the precision-recall curve: the mean precision over steps of the TPR, each at its lower threshold."""
        if not self.is_defined:
            return None
        true, false = np.append(self.true_positives, self.cosmic_rays), np.append(self.false_positives, self.clean)
        precision = true[1:] / np.maximum(true[1:] + false[1:], 1)
        return float(np.sum(np.diff(true) * precision) / self.cosmic_rays)

    def points(self) -> list[RocPoint]:
        """Few exact points for a drawing: those of `at_fpr` at 50 FPRs per decade, from one clean pixel to all."""
        if not self.is_defined:
            return []
        decades = np.log10(self.clean)
        fprs = np.logspace(-decades, 0, int(np.ceil(decades * POINTS_PER_DECADE)) + 1)
        return [self._point(index) for index in np.unique([*self._best(np.array([0.0])), *self._best(fprs)])]

    def _best(self, fprs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Where `at_fpr` finds its thresholds."""
        last = np.searchsorted(self._fprs, fprs, side="right") - 1
        return np.searchsorted(self.true_positives, self.true_positives[last], side="left")

    def _point(self, index: np.intp) -> RocPoint:
        tpr = int(self.true_positives[index]) / self.cosmic_rays
        return RocPoint(float(self.thresholds[index]), float(self._fprs[index]), tpr)


def count(
    scores: NDArray[np.float32], cosmic_rays: ArrayLike, ignore: ArrayLike | None = None, limit: int = MAX_THRESHOLDS
) -> RocCounts:
    """Count the pixels of a chip, of stamps or of anything else.

    Parameters
    ----------
    scores : ndarray of float32
        Higher means more like a cosmic ray; of any shape. Probabilities tie where they round to 0 or 1: give logits.
    cosmic_rays : array_like of bool, or of 0 and 1
        The CR mask, of the same shape.
    ignore : array_like of bool, or of 0 and 1, optional
        The ignore mask, of the same shape.
    limit : int
        Distinct scores to keep; where there are more, they lose significant bits (see `RocCounts`).

    Raises
    ------
    InvalidImageError
        If shapes or types differ from these, or a score that counts is NaN or plus infinity.
    """
    if scores.dtype != np.float32:
        raise InvalidImageError(f"the scores are {scores.dtype}: expected float32, the logits of a network")
    labels = as_flags(cosmic_rays, scores.shape, "CR mask")
    counted = np.ones(scores.shape, bool) if ignore is None else ~as_flags(ignore, scores.shape, "ignore mask")
    values, labels = np.maximum(scores[counted], LOWEST), labels[counted]
    if not (values < np.inf).all():
        raise InvalidImageError("a pixel that counts has a score of NaN or infinity: expected a number, or to ignore it")
    cosmic_ray_scores, cosmic_ray_tally = np.unique(values[labels], return_counts=True)
    clean_scores, clean_tally = np.unique(values[~labels], return_counts=True)
    return merge(
        [
            RocCounts(cosmic_ray_scores, cosmic_ray_tally, np.zeros_like(cosmic_ray_tally), scores.size - values.size),
            RocCounts(clean_scores, np.zeros_like(clean_tally), clean_tally, 0),
        ],
        limit,
    )


def merge(parts: Iterable[RocCounts], limit: int = MAX_THRESHOLDS) -> RocCounts:
    """The counts of several images together; of none, if there are no parts.

    Parameters
    ----------
    parts : iterable of RocCounts
        May be a generator: two are held at a time.
    limit : int
        Distinct scores to keep (see `count`).
    """
    merged = RocCounts(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    for part in parts:
        merged = _rounded_up(_joined(merged, part), min(merged.significant_bits, part.significant_bits))
        while merged.scores.size > limit and merged.significant_bits > 1:
            merged = _rounded_up(merged, merged.significant_bits - 1)
    return merged


def with_pooled(by_field_type: Mapping[str, RocCounts], limit: int = MAX_THRESHOLDS) -> dict[str, RocCounts]:
    """The counts of each field type, and under `POOLED` those of all of them together."""
    return {**by_field_type, POOLED: merge(by_field_type.values(), limit)}


def _joined(first: RocCounts, second: RocCounts) -> RocCounts:
    """All scores of both, not in order, some twice."""
    return RocCounts(
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.cosmic_rays, second.cosmic_rays]),
        np.concatenate([first.clean, second.clean]),
        first.ignored + second.ignored,
    )


def _rounded_up(counts: RocCounts, bits: int) -> RocCounts:
    """Distinct scores of so many significant bits, in order.

    Up, never down: a pixel is above a score that is left exactly if it was so before.
    """
    scores = counts.scores
    if bits < EXACT_BITS:
        mantissa, exponent = np.frexp(scores)
        scores = np.where(scores == LOWEST, LOWEST, np.ldexp(np.ceil(np.ldexp(mantissa, bits)), exponent - bits))
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: scores.size])

    def summed(tally: Tally) -> Tally:
        return np.add.reduceat(tally[order], starts) if starts.size else tally

    return RocCounts(scores[starts], summed(counts.cosmic_rays), summed(counts.clean), counts.ignored, bits)


def as_flags(mask: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    """A mask of booleans, or of 0 and 1, as booleans; `name` is what errors call it.

    Raises
    ------
    InvalidImageError
        If it has another shape or holds anything else.
    """
    flags = np.asarray(mask)
    if flags.shape != shape:
        raise InvalidImageError(f"the {name} has shape {flags.shape}: expected {shape}, as the pixels that are judged")
    if flags.dtype.kind not in "bui" or (flags.dtype.kind != "b" and not np.isin(flags, (0, 1)).all()):
        raise InvalidImageError(f"the {name} holds other values than 0 and 1: expected a mask")
    return flags.astype(bool)
