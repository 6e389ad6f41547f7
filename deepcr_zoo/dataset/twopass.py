"""The two-pass test of AstroDrizzle's driz_cr (DrizzlePac Handbook): signal beyond a prediction, its noise and its slope."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import ndimage

from deepcr_zoo.models.images import TOUCHING, Image, Mask


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


def noise(level: Image, read_noise_electron: float) -> Image:
    """Return sigma of read and Poisson noise (e-) of pixels at this level (e-), shape (H, W)."""
    return np.asarray(np.sqrt(np.float32(read_noise_electron**2) + np.maximum(level, 0)))


def steepest(image: Image) -> Image:
    """Return the largest difference to one of the four neighbours (the derivative of driz_cr)."""
    padded = np.pad(image, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.max([np.abs(image - one) for one in neighbours], axis=0))
