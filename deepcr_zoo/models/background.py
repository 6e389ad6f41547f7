"""Sky level and pixel noise of an image, measured where it is darkest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.images import Mask

_BLOCK = 32  # side of the blocks in which an image is sampled, pixels
_MOST_BLOCKS = 400  # blocks of a large image: 0.4 Mpixel give the noise to 1 % in a few milliseconds
_DARK_SHARE = 0.25  # of the blocks: sources cover the others in spectra and in crowded fields
_LEAST_PIXELS = 500  # usable pixels in the dark blocks, below which nothing is measured
_LEAST_CHANGES = 0.05  # share of neighbours that differ, below which the noise is lost in the steps of integers
_CLIP_SIGMA, _CLIP_ROUNDS = 3.0, 5
_CLIPPED_SIGMA = 0.9866  # standard deviation of a unit Gaussian cut at 3 sigma

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # steps along the rows, the columns and both diagonals


@dataclass(frozen=True)
class Background:
    """Background of an image, in the unit of its pixels."""

    level: float  # median where the image is darkest
    noise: float | None  # sigma of one pixel, from differences of neighbours; None if integers are too coarse to tell


def measure_background(image: NDArray[np.floating], usable: Mask | None = None) -> Background | None:
    """Return the background of an image (H, W) from its usable pixels; None if there are too few.

    The noise comes from differences of neighbouring pixels along the direction with the least structure, so that gradients
    and the lines of a spectrum do not count. Only pairs with a low sum count: sums and differences of noise are independent,
    so the choice leaves out sources and does not change the noise.
    """
    blocks = _dark_blocks(image, usable)
    if blocks is None:
        return None
    scales = [_scale(_dark_differences(blocks, *step)) for step in _NEIGHBOURS]
    found = [scale for scale in scales if scale is not None]
    return Background(float(np.nanmedian(blocks)), min(found) / np.sqrt(2) if found else None)


def _dark_blocks(image: NDArray[np.floating], usable: Mask | None) -> NDArray[np.float64] | None:
    """Return the darkest blocks of an image, shape (N, B, B), NaN where a pixel is not usable."""
    side = min(_BLOCK, *image.shape)
    rows, columns = (np.arange(0, size - side + 1, side) for size in image.shape)
    step = max(1, int(np.ceil(np.sqrt(rows.size * columns.size / _MOST_BLOCKS))))
    places = [np.s_[row : row + side, column : column + side] for row in rows[::step] for column in columns[::step]]
    blocks = np.stack([image[place] for place in places]).astype(np.float64)
    if usable is not None:
        blocks[~np.stack([usable[place] for place in places])] = np.nan
    # half of a block must be usable, and no block constant: such are the unexposed edges that a pipeline fills
    filled = np.isfinite(blocks).sum(axis=(1, 2)) >= side**2 / 2
    blocks = blocks[filled]
    blocks = blocks[np.nanmin(blocks, axis=(1, 2)) < np.nanmax(blocks, axis=(1, 2))] if len(blocks) else blocks
    if not len(blocks):
        return None
    wanted = max(1, round(_DARK_SHARE * len(blocks)))
    dark = blocks[np.argsort(np.nanmedian(blocks, axis=(1, 2)), kind="stable")[:wanted]]
    return dark if np.isfinite(dark).sum() >= _LEAST_PIXELS else None


def _dark_differences(blocks: NDArray[np.float64], down: int, right: int) -> NDArray[np.float64]:
    """Return the differences of pairs of pixels whose sum is below the median of its block."""
    side = blocks.shape[1]
    one = blocks[:, : side - down, max(0, -right) : side - max(0, right)]
    other = blocks[:, down:, max(0, right) : side + min(0, right)]
    sums = one + other
    dark = sums <= np.nanmedian(sums, axis=(1, 2), keepdims=True)
    return (one - other)[dark]


def _scale(differences: NDArray[np.float64]) -> float | None:
    """Return the sigma of values around their median, clipped; None if nearly all are the same."""
    if not differences.size or np.count_nonzero(differences) < _LEAST_CHANGES * differences.size:
        return None
    size = np.abs(differences - np.median(differences))
    sigma = float(np.quantile(size, 0.955)) / 2  # not the MAD, which integers of low noise make zero
    for _ in range(_CLIP_ROUNDS):
        kept = size[size <= _CLIP_SIGMA * sigma]
        if not kept.any():
            return None
        sigma = float(np.sqrt(np.mean(kept**2))) / _CLIPPED_SIGMA
    return sigma
