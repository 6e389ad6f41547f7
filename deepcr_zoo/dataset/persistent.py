"""Defects of the detector that exposures share: pixels and columns that stand out at the same place in most of them."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset.twopass import steepest
from deepcr_zoo.models.images import Image, Mask

VERSION = 3  # part of the hash of a visit: raised whenever other pixels are found

LEAST_EXPOSURES = 2  # one exposure does not show what lasts
_PIXEL_SIGMA, _PIXEL_GRADIENT = 4.0, 1.2  # of the noise, and of the slope of the scene: seeing moves light that far
_COLUMN_SIGMA = 5.0  # of the mean of a piece of a column
_PIECE = 64  # rows; a whole column is tested too
_CLIP = 3.0  # sigma, of a pixel in that mean: a cosmic ray must not decide
_AROUND = 15  # columns whose median is usual
_NARROW = 0.25  # largest excess of the columns beside, in units of that of a column: lines of the sky and slits are wider
_ALONG = 7  # pixels of a row whose median stands for the scene where nothing predicts it


@dataclass(frozen=True, eq=False)
class Observed:
    """A chip of an exposure, shape (H, W)."""

    image: Image  # e-
    expected: Image | None  # the scene at this place of the sky as other pixels saw it, e-; None if no others did
    usable: Mask
    read_noise_electron: float


@dataclass(frozen=True, eq=False)
class Defects:
    """Defects of a chip."""

    mask: Mask  # shape (H, W)
    in_columns: Mask  # those of the mask that are pieces of columns
    columns: tuple[int, ...]  # counted from 0, that stand out in whole or in a piece of `_PIECE` rows or more


@dataclass(frozen=True, eq=False)
class Tally:
    """How often each place of a chip has stood out; tallies of exposures can be added."""

    pixels: NDArray[np.int16]  # bright, dark and usable, shape (3, H, W)
    pieces: NDArray[np.int16]  # of columns, bright and dark, shape (2, P, W); the last piece is the whole column
    exposures: int = 1

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.pixels + other.pixels, self.pieces + other.pieces, self.exposures + other.exposures)

    @property
    def defects(self) -> Defects:
        """What stands out in most exposures that use the place; one exposure alone shows nothing."""
        shape = self.pixels.shape[1:]
        if self.exposures < LEAST_EXPOSURES:
            return Defects(np.zeros(shape, bool), np.zeros(shape, bool), ())
        pixels = (2 * self.pixels[:2] > np.maximum(self.pixels[2], LEAST_EXPOSURES)).any(axis=0)
        pieces = np.asarray((2 * self.pieces > self.exposures).any(axis=0))
        columns = np.flatnonzero(pieces.any(axis=0)).tolist()
        spread = _spread_pieces(pieces, shape[0])
        return Defects(pixels | spread, spread, tuple(columns))


def tally(one: Observed) -> Tally:
    """Count what stands out of an exposure, bright or dark.

    Single pixels are counted only against a prediction: without one, a star that does not move looks the same. Columns stand
    out of those around them.
    """
    excess, sigma = _excess(one)
    significance = np.where(one.usable, excess / sigma, np.float32(0))
    return Tally(_pixels(one, excess, sigma), _pieces(significance, one.usable, narrow=one.expected is None))


def find_defects(observed: Iterable[Observed]) -> Defects:
    """Return the defects of a chip, whose exposures have one shape and are taken one by one."""
    return reduce(operator.add, map(tally, observed)).defects


def _excess(one: Observed) -> tuple[Image, Image]:
    """Return by how much pixels exceed the scene, and sigma of their noise, e-."""
    filled = np.where(one.usable, one.image, np.float32(np.median(one.image[one.usable]) if one.usable.any() else 0))
    scene = ndimage.median_filter(filled, (1, _ALONG)) if one.expected is None else one.expected
    excess = filled - scene
    offset = np.float32(np.median(excess[one.usable])) if one.usable.any() else np.float32(0)
    return excess - offset, np.sqrt(np.float32(one.read_noise_electron**2) + np.maximum(scene, 1)).astype(np.float32)


def _pixels(one: Observed, excess: Image, sigma: Image) -> NDArray[np.int16]:
    if one.expected is None:
        return np.zeros((3, *excess.shape), np.int16)
    limit = _PIXEL_SIGMA * sigma + _PIXEL_GRADIENT * steepest(one.expected)
    return np.stack([one.usable & (excess > limit), one.usable & (excess < -limit), one.usable]).astype(np.int16)


def _pieces(significance: Image, usable: Mask, narrow: bool) -> NDArray[np.int16]:
    """Return 1 where a piece of a column stands out, bright and dark; the last row of pieces is whole columns."""
    clipped = np.clip(significance, -_CLIP, _CLIP)
    starts = _starts(len(clipped))
    sums, pixels = (np.add.reduceat(one, starts, axis=0).astype(np.float64) for one in (clipped, usable.astype(np.int64)))
    mean = sums / np.maximum(pixels, 1)
    # the median of the pieces: a short piece that is very bright does not make a bad column
    mean = np.concatenate([mean, np.median(mean, axis=0)[None]])
    pixels = np.concatenate([pixels, pixels.sum(axis=0)[None]])
    profile = mean - ndimage.median_filter(mean, (1, _AROUND), mode="mirror")
    limit = _COLUMN_SIGMA / np.sqrt(np.maximum(pixels, 1))
    limit[-1] *= np.sqrt(np.pi / 2)
    found = []
    for sign in (1, -1):
        high = sign * profile
        beside = np.maximum(np.roll(high, 1, axis=1), np.roll(high, -1, axis=1))
        # half of the pixels: what is left of a flagged column proves little
        stands_out = (high > limit) & (2 * pixels >= pixels.max(axis=1, keepdims=True))
        found.append(stands_out & (beside < _NARROW * high) if narrow else stands_out)
    return np.stack(found).astype(np.int16)


def _starts(rows: int) -> NDArray[np.intp]:
    return np.arange(0, max(rows - _PIECE, 0) + 1, _PIECE)


def _spread_pieces(pieces: Mask, rows: int) -> Mask:
    """Return the pixels of pieces of columns; a column that stands out as a whole is one where a piece is not enough."""
    lengths = np.diff(np.append(_starts(rows), rows))
    return np.asarray(pieces[:-1].repeat(lengths, axis=0) | pieces[-1])
