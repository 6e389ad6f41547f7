"""The point spread of a star seen through the atmosphere: a Moffat profile (Moffat 1969)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.charge import Floats, Silicon
from deepcr_zoo.simulate.optics import offsets_pixels, on_pixels

_SIGMAS = 2 * np.sqrt(2 * np.log(2))  # FWHM / sigma of a Gaussian


def moffat(radius_pixels: Floats, fwhm_pixels: float, beta: float) -> Floats:
    """Return a Moffat profile whose value at the centre is 1."""
    core = fwhm_pixels / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return np.asarray((1 + (radius_pixels / core) ** 2) ** -beta)


def seeing_spread(fwhm_pixels: float, beta: float, silicon: Silicon) -> NDArray[np.float32]:
    """Return the share of a star's light on a pixel, as `optics.point_spread` does."""
    offsets = offsets_pixels()
    return on_pixels(moffat(np.hypot(offsets, offsets[:, None]), fwhm_pixels, beta), silicon)


def core_variance(fwhm_pixels: float) -> float:
    """Return the variance of a Gaussian of this FWHM, pixel^2."""
    return float((fwhm_pixels / _SIGMAS) ** 2)
