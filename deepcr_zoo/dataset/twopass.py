"""The two-pass test of AstroDrizzle's driz_cr (DrizzlePac Handbook): signal beyond a prediction, its noise and its slope."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

TOUCHING = np.ones((3, 3), dtype=bool)  # a pixel and its eight neighbours


class TwoPassSettings(Protocol):
    """Thresholds of the first and the second pass."""

    snr: list[float]  # in sigma of the difference
    gradient: list[float]  # as multiples of the steepest slope around
    grow: int  # pixels around the first pass where the second counts


def find_excess(excess: Image, sigma: Image, slope: Image, settings: TwoPassSettings) -> Mask:
    """Return the pixels (H, W) that exceed a prediction, given sigma of its noise and its slope, e-."""
    passes = zip(settings.snr, settings.gradient, strict=True)
    strong, weak = (excess > snr * sigma + scale * slope for snr, scale in passes)
    return grow(strong, weak, settings.grow)


def grow(strong: Mask, weak: Mask, pixels: int) -> Mask:
    """Return `strong` (above the first threshold) and the pixels of `weak` (above the second) this near to it."""
    return np.asarray(strong | (weak & ndimage.binary_dilation(strong, TOUCHING, iterations=pixels)))


def steepest(image: Image) -> Image:
    """Return the largest difference to one of the four neighbours (the derivative of driz_cr)."""
    padded = np.pad(image, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.max([np.abs(image - one) for one in neighbours], axis=0))
