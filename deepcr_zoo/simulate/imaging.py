"""Image sources onto pixels: convolve every star with the point spread, by Fourier transform, tile by tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deepcr_zoo.simulate.optics import HALF_WIDTH, OVERSAMPLING
from deepcr_zoo.simulate.scenes import Floats, SceneSources

TILE = 1024  # side of a tile in pixels
_EXTENDED_PIXELS = 1.5  # Gaussians of this sigma or more are drawn on pixels, smaller ones pass the point spread
_CORE_VARIANCE = 0.72  # variance of the core of the point spread, pixel^2, which widens extended Gaussians
_REACH = 4.0  # Gaussians are drawn out to this many sigma


class PointSpreadTransforms:
    """Fourier transforms of an `optics.point_spread` at each phase of a star within its pixel, for images up to `shape`."""

    def __init__(self, kernel: NDArray[np.float32], shape: tuple[int, int]) -> None:
        rows, columns = (fft.next_fast_len(min(TILE, side) + 2 * HALF_WIDTH, real=True) for side in shape)
        self.shape = (rows, columns)
        reach = np.arange(-HALF_WIDTH, HALF_WIDTH)
        self.phases: dict[tuple[int, int], NDArray[np.complex64]] = {}
        lines = (reach + HALF_WIDTH) * OVERSAMPLING + OVERSAMPLING
        for y, x in np.ndindex(OVERSAMPLING, OVERSAMPLING):
            spread = np.zeros(self.shape, np.float32)
            spread[np.ix_(reach + 1, reach + 1)] = kernel[np.ix_(lines - y, lines - x)]
            self.phases[y, x] = fft.rfft2(spread)

    def convolve(self, canvas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels of a canvas of sub-pixels; `HALF_WIDTH` pixels at its edges miss light from outside it."""
        total = np.zeros((self.shape[0], self.shape[1] // 2 + 1), np.complex64)
        for (y, x), transform in self.phases.items():
            total += fft.rfft2(canvas[y::OVERSAMPLING, x::OVERSAMPLING]) * transform
        return np.asarray(fft.irfft2(total, self.shape))


def render(
    sources: SceneSources,
    transforms: PointSpreadTransforms,
    shape: tuple[int, int],
    core_variance: float = _CORE_VARIANCE,
) -> NDArray[np.float32]:
    """Return the electrons of these sources on a chip, shape (H, W), never negative.

    Their light is in electrons, their pixels count from 0 at the centre of the first. `core_variance` (pixel^2) is that of
    the core of the point spread, which widens extended sources.
    """
    image = np.zeros(shape, np.float32)
    extended = sources.blob_covariances.trace(axis1=1, axis2=2) >= 2 * _EXTENDED_PIXELS**2
    for top in range(0, shape[0], TILE):
        for left in range(0, shape[1], TILE):
            tile = image[top : top + TILE, left : left + TILE]
            canvas = _canvas(sources, ~extended, transforms, (top - HALF_WIDTH, left - HALF_WIDTH))
            drawn = transforms.convolve(canvas)
            tile += drawn[HALF_WIDTH:, HALF_WIDTH:][: tile.shape[0], : tile.shape[1]]
    np.maximum(image, 0, out=image)  # rounding of the transforms can give negative values
    covariances = sources.blob_covariances[extended] + np.eye(2) * core_variance
    for blob in zip(sources.blobs[extended], sources.blob_light[extended], covariances, strict=True):
        _add_gaussian(image, *blob)
    return image


def _canvas(
    sources: SceneSources, compact: NDArray[np.bool_], transforms: PointSpreadTransforms, corner: tuple[int, int]
) -> NDArray[np.float32]:
    """Draw stars and compact Gaussians on sub-pixels, from the `corner` (row, column) of the chip."""
    rows, columns = (side * OVERSAMPLING for side in transforms.shape)
    x, y = ((sources.stars[:, axis] - corner[1 - axis]) * OVERSAMPLING for axis in (0, 1))
    inside = (x >= 0) & (x < columns - 1) & (y >= 0) & (y < rows - 1)
    canvas = _spread_bilinear(x[inside], y[inside], sources.star_light[inside], (rows, columns))
    places = (sources.blobs[compact] - corner[::-1]) * OVERSAMPLING
    covariances = sources.blob_covariances[compact] * OVERSAMPLING**2 + np.eye(2) * 0.25
    near = ((places > -HALF_WIDTH) & (places < np.array([columns, rows]) + HALF_WIDTH)).all(axis=1)
    for blob in zip(places[near], sources.blob_light[compact][near], covariances[near], strict=True):
        _add_gaussian(canvas, *blob)
    return canvas


def _spread_bilinear(x: Floats, y: Floats, weight: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Share each point among the four sub-pixels around it."""
    column, row = x.astype(np.int64), y.astype(np.int64)
    right_share, upper_share = x - column, y - row
    first = row * shape[1] + column
    corners = np.concatenate([first, first + 1, first + shape[1], first + shape[1] + 1])
    left, right, lower = weight * (1 - right_share), weight * right_share, 1 - upper_share
    shares = np.concatenate([left * lower, right * lower, left * upper_share, right * upper_share])
    return np.bincount(corners, shares, shape[0] * shape[1]).astype(np.float32).reshape(shape)


def _add_gaussian(image: NDArray[np.float32], place: Floats, electrons: float, covariance: Floats) -> None:
    """Add a Gaussian with this many electrons at x, y, in place."""
    reach = _REACH * np.sqrt(covariance.diagonal()) + 1
    first = np.maximum(np.floor(place - reach), 0).astype(int)
    last = np.minimum(np.ceil(place + reach) + 1, image.shape[::-1]).astype(int)
    if (last <= first).any():
        return
    x = (np.arange(first[0], last[0]) - place[0]).astype(np.float32)
    y = (np.arange(first[1], last[1]) - place[1]).astype(np.float32)[:, None]
    determinant = covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2
    xx, xy, yy = (np.float32(v / determinant) for v in (covariance[1, 1], -covariance[0, 1], covariance[0, 0]))
    exponent = -0.5 * xx * x**2 - xy * x * y - 0.5 * yy * y**2
    height = np.float32(electrons / (2 * np.pi * np.sqrt(determinant)))
    image[first[1] : last[1], first[0] : last[0]] += height * np.exp(exponent)
