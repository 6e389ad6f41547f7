"""Offsets between the exposures of a visit, by cross-correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

REACH = 4  # largest offset that can be found, pixels

# sigma of the Gaussians whose difference keeps stars and removes the background, pixels
_STAR_SIGMA, _BACKGROUND_SIGMA = 1.0, 8.0


def measure_offsets(images: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the offset of each image from the median position of all, rows and columns in pixels, shape (n, 2).

    The images (H, W) share one grid, with zero or NaN where there is no value. An offset is the peak of the
    cross-correlation with the first image, interpolated by a parabola. Cosmic rays differ from image to image and do not
    correlate; the brightest pixels are clipped, so that no single star decides.
    """
    transforms = [fft.rfft2(_extract_stars(image)) for image in images]
    shape = images[0].shape
    peaks = np.array([_find_peak(fft.irfft2(one * np.conj(transforms[0]), shape)) for one in transforms])
    return np.asarray(peaks - np.median(peaks, axis=0))


def _extract_stars(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image without its background, clipped, and zero where there is no value."""
    empty = ~np.isfinite(image) | (image == 0)
    filled = np.where(empty, np.median(image[~empty]) if not empty.all() else 0, image)
    sharp = ndimage.gaussian_filter(filled, _STAR_SIGMA) - ndimage.gaussian_filter(filled, _BACKGROUND_SIGMA)
    limit = np.percentile(np.abs(sharp), 99)
    # residual edges of empty regions must not correlate
    near_empty = ndimage.binary_dilation(empty, iterations=3)
    return np.where(near_empty, 0, np.clip(sharp, -limit, limit)).astype(np.float32)


def _find_peak(correlation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return row and column of the maximum within `REACH` of no offset."""
    side = 2 * REACH + 1
    middle = np.roll(correlation, (REACH + 1, REACH + 1), axis=(0, 1))[: side + 2, : side + 2]
    row, column = (int(place) + 1 for place in np.unravel_index(np.argmax(middle[1:-1, 1:-1]), (side, side)))
    top = middle[row, column]
    up = _find_vertex(middle[row - 1, column], top, middle[row + 1, column])
    right = _find_vertex(middle[row, column - 1], top, middle[row, column + 1])
    return np.array([row - REACH - 1 + up, column - REACH - 1 + right])


def _find_vertex(before: float, top: float, after: float) -> float:
    """Return the position of the maximum of the parabola through three values at -1, 0 and 1."""
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
