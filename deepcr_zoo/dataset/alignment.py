"""Which exposure of a visit lies beside the others: offsets measured on the images themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

REACH = 4
"""Offsets up to so many pixels are found."""

_SMOOTH = 1.0
_BACKGROUND = 8.0


def offsets(images: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """How far each image lies from the others: from the median position of all.

    The peak of the cross-correlation with the first image, interpolated by a parabola. Cosmic rays differ from image to
    image and do not correlate; the brightest pixels are clipped, so that no single star decides.

    Parameters
    ----------
    images : sequence of ndarray of float32, shape (H, W)
        On one grid; zero or NaN where there is no value.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Rows and columns, pixels.
    """
    transforms = [fft.rfft2(_stars(image)) for image in images]
    shape = images[0].shape
    places = np.array([_peak(fft.irfft2(one * np.conj(transforms[0]), shape)) for one in transforms])
    return np.asarray(places - np.median(places, axis=0))


def _stars(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What stands out of the background, clipped; zero where there is no value."""
    empty = ~np.isfinite(image) | (image == 0)
    filled = np.where(empty, np.median(image[~empty]) if not empty.all() else 0, image)
    sharp = ndimage.gaussian_filter(filled, _SMOOTH) - ndimage.gaussian_filter(filled, _BACKGROUND)
    limit = np.percentile(np.abs(sharp), 99)
    # residual edges of what is empty must not correlate
    near_empty = ndimage.binary_dilation(empty, iterations=3)
    return np.where(near_empty, 0, np.clip(sharp, -limit, limit)).astype(np.float32)


def _peak(correlation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row and column of the maximum within `REACH` of no offset."""
    side = 2 * REACH + 1
    middle = np.roll(correlation, (REACH + 1, REACH + 1), axis=(0, 1))[: side + 2, : side + 2]
    row, column = (int(place) + 1 for place in np.unravel_index(np.argmax(middle[1:-1, 1:-1]), (side, side)))
    top = middle[row, column]
    return np.array(
        [
            row - REACH - 1 + _vertex(middle[row - 1, column], top, middle[row + 1, column]),
            column - REACH - 1 + _vertex(middle[row, column - 1], top, middle[row, column + 1]),
        ]
    )


def _vertex(before: float, top: float, after: float) -> float:
    """Where the parabola through three values at -1, 0 and 1 is highest."""
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
