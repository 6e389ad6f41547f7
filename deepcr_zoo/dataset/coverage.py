"""Pixels of a chip that other exposures cover too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

STEP = 64  # between pixels whose sky position is computed; distortion bends the lines between them by less than 0.1 pixel


@dataclass(frozen=True)
class GoodPixels:
    """The usable pixels of one chip, shape (H, W)."""

    good: NDArray[np.bool_]
    wcs: WCS


def seen_by_others(chip: GoodPixels, others: Sequence[GoodPixels]) -> NDArray[np.bool_]:
    """Return the pixels (H, W) whose centre falls on a good pixel of at least one chip of another exposure."""
    seen = np.zeros_like(chip.good)
    rows, columns = _nodes(seen.shape[0]), _nodes(seen.shape[1])
    grid = np.meshgrid(rows, columns, indexing="ij")
    sky = chip.wcs.all_pix2world(grid[1], grid[0], 0)
    for other in others:
        x, y = other.wcs.all_world2pix(*sky, 0, quiet=True)
        height, width = other.good.shape
        if not (y.max() > -1 and x.max() > -1 and y.min() < height and x.min() < width):
            continue
        # strip by strip: the coordinates of a whole chip would take 100 MB
        lines = [np.stack([np.interp(np.arange(seen.shape[1]), columns, line) for line in places]) for places in (y, x)]
        for index, (first, last) in enumerate(pairwise(rows.tolist())):
            strip = np.arange(first, last + 1)
            between = ((strip - first) / (last - first))[:, None]
            there = [line[index] * (1 - between) + line[index + 1] * between for line in lines]
            seen[first : last + 1] |= _good_at(other.good, *there)
    return seen


def _good_at(good: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    row, column = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    inside = (row >= 0) & (row < good.shape[0]) & (column >= 0) & (column < good.shape[1])
    return np.asarray(inside & good[np.where(inside, row, 0), np.where(inside, column, 0)])


def _nodes(side: int) -> NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, side, STEP), side - 1))
