"""Values for pixels that have none, from the good pixels around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 5
"""Side of the neighbourhood in pixels: the 5x5 masked median of Zhang & Bloom 2020, section 3.2."""

_CHUNK = 100_000


def local_median(image: NDArray[np.float32], wanted: NDArray[np.bool_], good: NDArray[np.bool_]) -> NDArray[np.float32]:
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
    rows, columns = np.nonzero(wanted)
    steps = np.arange(WINDOW) - WINDOW // 2
    medians = np.empty(rows.size, dtype=np.float32)
    for start in range(0, rows.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        near_rows = rows[part, None, None] + steps[:, None]
        near_columns = columns[part, None, None] + steps
        inside = (near_rows >= 0) & (near_rows < image.shape[0]) & (near_columns >= 0) & (near_columns < image.shape[1])
        near = np.where(inside, near_rows, 0), np.where(inside, near_columns, 0)
        medians[part] = _median_of_good(image[near], inside & good[near])
    return medians


def replace_from_neighbours(image: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A copy of an image in which each pixel that is not good has a value from its surroundings.

    The median of the good pixels in 5x5, or the nearest good pixel where there are none; zero if no pixel is good.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
    good : ndarray of bool, shape (H, W)
    """
    replaced = np.where(good, image, np.float32(0))
    if not good.any():
        return replaced
    values = local_median(replaced, ~good, good)
    alone = np.isnan(values)
    if alone.any():
        from scipy.ndimage import distance_transform_edt

        rows, columns = distance_transform_edt(~good, return_distances=False, return_indices=True)
        bad_rows, bad_columns = (axis[alone] for axis in np.nonzero(~good))
        values[alone] = image[rows[bad_rows, bad_columns], columns[bad_rows, bad_columns]]
    replaced[~good] = values
    return replaced


def _median_of_good(values: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median over the last two axes of the good values, NaN where there are none."""
    ordered = np.where(good, values, np.float32(np.inf)).reshape(len(values), -1)
    ordered.sort(axis=1)
    count = good.reshape(len(good), -1).sum(axis=1)
    upper = np.minimum(count // 2, ordered.shape[1] - 1)
    lower = np.maximum(count - 1, 0) // 2
    index = np.arange(len(ordered))
    middle = ordered[index, lower] / 2 + ordered[index, upper] / 2
    return np.where(count > 0, middle, np.float32(np.nan)).astype(np.float32)
