"""Trails of satellites and aeroplanes: lines across a frame, as wide as a star or wider. They are no cosmic rays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from deepcr_zoo.simulate.seeing import moffat

# assumed
_LOG_PEAK = (0.3, 2.5)  # log10 of the brightest pixel / sigma of the noise of the sky
_WIDENING = (1.0, 2.0)  # satellites are near, and out of focus
_WHOLE = 0.7  # share of trails that cross the frame; others begin or end in it
_BLINKING = 0.2  # share whose brightness varies along the trail


def satellite_trails(
    shape: tuple[int, int], mean: float, noise: float, fwhm_pixels: float, beta: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the light of the trails of an exposure, shape (H, W), in units of `noise`, that of a pixel of the sky."""
    light = np.zeros(shape, np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    for _ in range(rng.poisson(mean)):
        angle = rng.uniform(0, np.pi)
        middle = rng.uniform(0, 1, 2) * shape
        along = (x - middle[1]) * np.cos(angle) + (y - middle[0]) * np.sin(angle)
        across = (y - middle[0]) * np.cos(angle) - (x - middle[1]) * np.sin(angle)
        width = fwhm_pixels * rng.uniform(*_WIDENING)
        trail = 10 ** rng.uniform(*_LOG_PEAK) * noise * moffat(across, width, beta)
        if rng.random() < _BLINKING:
            trail *= 1 + 0.9 * np.sin(2 * np.pi * along / rng.uniform(15, 150))
        if rng.random() > _WHOLE:  # its end is as soft as a star
            trail *= special.expit(along / max(width / 3, 0.3))
        light += trail.astype(np.float32)
    return light
