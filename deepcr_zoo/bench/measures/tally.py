"""How many pixels of each of several groups a method masks, at each of its thresholds.

Groups are by class and block of sky, by brightness of the cosmic ray, by distance from the edge, and so on. Networks and
L.A.Cosmic share this count: thresholds are the edges of fine bins of the logit, or values of ``sigclip``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.roc import Counts, Scores

BIN_WIDTH = 1 / 64
"""Width in logit: an FPR changes by 1.6 % at most from edge to edge where it falls as fast as the logistic function does."""

LOGIT_EDGES = np.arange(-32 * 64, 32 * 64 + 1) / 64
"""Thresholds of networks; beyond them a probability in float32 is 0 or 1 to 1e-14."""

NO_GROUP = -1
"""Group number of pixels that are not counted."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Pixels of each group, shape (G,), and those masked at each of T ascending thresholds, shape (G, T)."""

    thresholds: NDArray[np.float64]
    masked: Counts
    pixels: Counts

    def __add__(self, other: Tally) -> Tally:
        """Add the counts of other images of the same groups."""
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("tallies that are added: expected the same thresholds")
        return Tally(self.thresholds, self.masked + other.masked, self.pixels + other.pixels)

    def beside(self, other: Tally) -> Tally:
        """Return the groups of both, these first."""
        masked = np.concatenate([self.masked, other.masked])
        return Tally(self.thresholds, masked, np.concatenate([self.pixels, other.pixels]))

    def summed(self, groups: int) -> Tally:
        """Return `groups` groups: each is the sum of every `groups`-th one."""
        masked = self.masked.reshape(-1, groups, len(self.thresholds)).sum(axis=0)
        return Tally(self.thresholds, masked, self.pixels.reshape(-1, groups).sum(axis=0))

    def rates(self, threshold: float | None) -> list[float | None]:
        """Return the share of each group that is masked, interpolated linearly between thresholds.

        It is None for groups without pixels, without a threshold, and beyond the first and the last threshold.
        """
        if threshold is None or not self.thresholds[0] <= threshold <= self.thresholds[-1]:
            return [None] * len(self.pixels)
        return [
            float(np.interp(threshold, self.thresholds, masked)) / int(pixels) if pixels else None
            for masked, pixels in zip(self.masked, self.pixels, strict=True)
        ]


def logit_bins(logits: Scores) -> Counts:
    """Return how many of `LOGIT_EDGES` each logit is above; exact, because the edges are multiples of 1/64."""
    scaled = np.ceil(np.clip(logits, -64, 64) * np.float32(1 / BIN_WIDTH))
    bins: Counts = np.clip(scaled.astype(np.int64) - round(LOGIT_EDGES[0] / BIN_WIDTH), 0, len(LOGIT_EDGES))
    return bins


def tally_logits(bins: Counts, group: NDArray[np.integer], groups: int) -> Tally:
    """Count pixels whose logit is **above** each of `LOGIT_EDGES`, as `MaskModel.mask` masks them.

    `bins` are those of `logit_bins`; `group` holds numbers below `groups`, or `NO_GROUP`.
    """
    counted = group != NO_GROUP
    columns = len(LOGIT_EDGES) + 1
    flat = group[counted].astype(np.int64) * columns + bins[counted]
    counts = np.bincount(flat, minlength=groups * columns).reshape(groups, columns)
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Tally(LOGIT_EDGES, above[:, 1:], above[:, 0])


def tally_masks(
    masks: Sequence[NDArray[np.bool_]], thresholds: Sequence[float], group: NDArray[np.integer], groups: int
) -> Tally:
    """Count the pixels of one mask per ascending threshold; `group` has their shape and is as in `tally_logits`."""

    def count(numbers: NDArray[np.integer]) -> Counts:
        return np.bincount(numbers[numbers != NO_GROUP], minlength=groups)

    masked = np.stack([count(group[mask]) for mask in masks], axis=1)
    return Tally(np.asarray(thresholds, np.float64), masked, count(group.ravel()))
