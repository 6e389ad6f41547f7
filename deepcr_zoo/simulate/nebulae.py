"""Nebulosity: diffuse light with filaments at all sizes, which no pixel is too small to resolve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from deepcr_zoo.simulate.charge import Floats

_SLOPE = -1.5  # amplitude falls as wavenumber to this power (assumed; power falls as its square, as in interstellar clouds)
_CONTRAST = (0.4, 1.2)  # sigma of the natural logarithm of the brightness (assumed)


class Nebula:
    """Nebulosity over a chip, which moves with the sky."""

    def __init__(self, shape: tuple[int, int], mean: float, rng: np.random.Generator) -> None:
        y, x = np.meshgrid(fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), indexing="ij")
        wavenumber = np.hypot(y, x)
        wavenumber[0, 0] = np.inf
        waves = fft.fft2(rng.standard_normal(shape)) * wavenumber**_SLOPE
        log_light = fft.ifft2(waves).real
        light = np.exp(rng.uniform(*_CONTRAST) * log_light / log_light.std())
        self._waves = fft.fft2(light * (mean / light.mean()))

    def light(self, offset: Floats, variance: float) -> NDArray[np.float32]:
        """Return its light, shape (H, W), moved by an offset (x, y) and seen through a Gaussian point spread."""
        moved = ndimage.fourier_shift(self._waves, offset[::-1])
        seen = ndimage.fourier_gaussian(moved, np.sqrt(variance))
        return np.asarray(np.maximum(fft.ifft2(seen).real, 0), dtype=np.float32)
