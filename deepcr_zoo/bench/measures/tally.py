"""How many pixels of each of several groups a method masks, at each of its thresholds.

Groups are whatever pixels are told apart by: class and block of sky, brightness of the cosmic ray, distance from the edge.
Networks and L.A.Cosmic are counted alike: the thresholds of one are the edges of fine bins of its logit, those of the other
are values of ``sigclip``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.roc import Scores
from deepcr_zoo.bench.measures.roc import Tally as Counts

BIN_WIDTH = 1 / 64
"""Of the logit. An FPR changes by 1.6 % at most from edge to edge where it falls as fast as the logistic function does."""

LOGIT_EDGES = np.arange(-32 * 64, 32 * 64 + 1) / 64
"""Thresholds of networks; beyond them a probability in float32 is 0 or 1 to 1e-14."""

NO_GROUP = -1
"""Of pixels that are counted nowhere."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of masked pixels; those of several images add up to those of all of them together.

    Attributes
    ----------
    thresholds : ndarray of float64, shape (T,)
        Ascending.
    masked : ndarray of int64, shape (G, T)
        Pixels of each group that are masked at each threshold.
    pixels : ndarray of int64, shape (G,)
        Pixels of each group.
    """

    thresholds: NDArray[np.float64]
    masked: Counts
    pixels: Counts

    def __add__(self, other: Tally) -> Tally:
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("tallies that are added: expected the same thresholds")
        return Tally(self.thresholds, self.masked + other.masked, self.pixels + other.pixels)

    def beside(self, other: Tally) -> Tally:
        """The groups of both, first these."""
        return Tally(
            self.thresholds, np.concatenate([self.masked, other.masked]), np.concatenate([self.pixels, other.pixels])
        )

    def summed(self, groups: int) -> Tally:
        """Every group together with those that come a multiple of `groups` after it."""
        masked = self.masked.reshape(-1, groups, len(self.thresholds)).sum(axis=0)
        return Tally(self.thresholds, masked, self.pixels.reshape(-1, groups).sum(axis=0))

    def rates(self, threshold: float | None) -> list[float | None]:
        """Share of each group that is masked: exact at the method's own thresholds, interpolated linearly between them.

        None for groups without pixels, without a threshold, and beyond the first and the last.
        """
        if threshold is None or not self.thresholds[0] <= threshold <= self.thresholds[-1]:
            return [None] * len(self.pixels)
        return [
            float(np.interp(threshold, self.thresholds, masked)) / int(pixels) if pixels else None
            for masked, pixels in zip(self.masked, self.pixels, strict=True)
        ]


def logit_bins(logits: Scores) -> NDArray[np.int64]:
    """How many of `LOGIT_EDGES` each logit is above; exact, because the edges are whole numbers of 1/64."""
    scaled = np.ceil(np.clip(logits, -64, 64) * np.float32(1 / BIN_WIDTH))
    bins: NDArray[np.int64] = np.clip(scaled.astype(np.int64) - round(LOGIT_EDGES[0] / BIN_WIDTH), 0, len(LOGIT_EDGES))
    return bins


def tally_logits(bins: NDArray[np.int64], group: NDArray[np.integer], groups: int) -> Tally:
    """Count pixels whose logit is **above** each of `LOGIT_EDGES`, as `MaskModel.mask` masks them.

    Parameters
    ----------
    bins : ndarray of int64
        By `logit_bins`.
    group : ndarray of int
        Of the same shape: from 0 to `groups` - 1, or `NO_GROUP`.
    groups : int
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
    """Count the pixels of one mask per threshold.

    Parameters
    ----------
    masks : sequence of ndarray of bool
        In the order of the thresholds.
    thresholds : sequence of float
        Ascending.
    group : ndarray of int
        Of the masks' shape: from 0 to `groups` - 1, or `NO_GROUP`.
    groups : int
    """

    def count(numbers: NDArray[np.integer]) -> Counts:
        return np.bincount(numbers[numbers != NO_GROUP], minlength=groups)

    masked = np.stack([count(group[mask]) for mask in masks], axis=1)
    return Tally(np.asarray(thresholds, np.float64), masked, count(group.ravel()))
