"""Values for pixels that have none, from the good pixels around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

WINDOW = 5
"""Side of the neighbourhood in pixels: the 5x5 masked median of Zhang & Bloom 2020."""

_BAND_PIXELS = 2**16
"""Pixels of the image that are worked on at a time, which bounds the memory for their neighbourhoods."""

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Values = NDArray[np.float32]
Indices = NDArray[np.intp]


def local_median(image: Image, wanted: Mask, good: Mask) -> Values:
    """Median of the good pixels in the 5x5 neighbourhood of each wanted pixel.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
    wanted, good : ndarray of bool, shape (H, W)
        Where a value is asked for, and which pixels may supply it.

    Returns
    -------
    ndarray of float32, shape (number of wanted pixels,)
        In the order of ``numpy.nonzero``; NaN where no neighbour is good.
    """
    parts = [_local_median(image, good, *places) for places in _bands(wanted)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def replace_from_neighbours(image: Image, wanted: Mask, good: Mask) -> Image:
    """A copy of an image in which each wanted pixel has a value from its surroundings.

    The median of the good pixels in 5x5, or the nearest good pixel where there are none; zero if no pixel is good.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
    wanted, good : ndarray of bool, shape (H, W)
        Which pixels are replaced, and which others may supply values.
    """
    replaced = np.where(wanted, np.float32(0), image)
    if not good.any():
        return replaced
    nearest = None
    for rows, columns in _bands(wanted):
        values = _local_median(image, good, rows, columns)
        alone = np.isnan(values)
        if alone.any():
            nearest = nearest or _nearest_good(image, good)
            values[alone] = nearest(rows[alone], columns[alone])
        replaced[rows, columns] = values
    return replaced


def _bands(wanted: Mask) -> Iterator[tuple[Indices, Indices]]:
    """Rows and columns of the wanted pixels, a band of the image at a time."""
    step = max(1, _BAND_PIXELS // wanted.shape[1])
    for top in range(0, wanted.shape[0], step):
        rows, columns = np.nonzero(wanted[top : top + step])
        if rows.size:
            yield rows + top, columns


def _local_median(image: Image, good: Mask, rows: Indices, columns: Indices) -> Values:
    steps = np.arange(WINDOW) - WINDOW // 2
    near_rows = rows[:, None, None] + steps[:, None]
    near_columns = columns[:, None, None] + steps
    inside = (near_rows >= 0) & (near_rows < image.shape[0]) & (near_columns >= 0) & (near_columns < image.shape[1])
    near = np.where(inside, near_rows, 0), np.where(inside, near_columns, 0)
    usable = (inside & good[near]).reshape(rows.size, -1)
    ordered = np.sort(np.where(usable, image[near].reshape(rows.size, -1), np.float32(np.inf)), axis=1)
    count = usable.sum(axis=1)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[1] - 1)
    index = np.arange(rows.size)
    middle = ordered[index, lower] / 2 + ordered[index, upper] / 2
    return np.where(count > 0, middle, np.float32(np.nan)).astype(np.float32)


def _nearest_good(image: Image, good: Mask) -> Callable[[Indices, Indices], Values]:
    """A function that gives the value of the good pixel nearest to each place that is not good."""
    from scipy.ndimage import binary_dilation
    from scipy.spatial import KDTree

    # the nearest good pixel always touches one that is not good: the tree holds the rims of the holes alone
    rim = np.argwhere(good & binary_dilation(~good, np.ones((3, 3))))
    tree = KDTree(rim)

    def nearest(rows: Indices, columns: Indices) -> Values:
        _, index = tree.query(np.column_stack([rows, columns]))
        values: Values = image[tuple(rim[index].T)]
        return values

    return nearest
