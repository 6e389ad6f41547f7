"""The point spread of a star seen through the atmosphere: a Moffat profile (Moffat 1969), out of focus or trailed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from deepcr_zoo.simulate.charge import Floats, Silicon
from deepcr_zoo.simulate.optics import offsets_pixels, on_pixels

_HOLE = 0.35  # inner radius of the ring of a star out of focus / outer radius: the mirror's obstruction (assumed)
_SIGMAS = 2 * np.sqrt(2 * np.log(2))  # FWHM / sigma of a Gaussian


def moffat(radius_pixels: Floats, fwhm_pixels: float, beta: float) -> Floats:
    """Return a Moffat profile whose value at the centre is 1."""
    core = fwhm_pixels / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return np.asarray((1 + (radius_pixels / core) ** 2) ** -beta)


@dataclass(frozen=True)
class Blur:
    """What spreads the image of a star beside the seeing, in pixels."""

    defocus: float = 0.0  # outer radius of the ring
    trail: tuple[float, float] = (0.0, 0.0)  # along x and y

    def apply(self, intensity: Floats) -> Floats:
        """Return an intensity on the grid of `optics.offsets_pixels` after it."""
        offsets = offsets_pixels()
        if self.defocus:
            radius = np.hypot(offsets, offsets[:, None])
            intensity = _spread(intensity, (radius <= self.defocus) & (radius >= _HOLE * self.defocus))
        if any(self.trail):
            intensity = _spread(intensity, _line(offsets, self.trail))
        return intensity


SHARP = Blur()


def _line(offsets: Floats, trail: tuple[float, float]) -> Floats:
    """Return a straight trail about the centre of the grid."""
    length = float(np.hypot(*trail))
    steps = np.linspace(-0.5, 0.5, max(2, int(4 * length / (offsets[1] - offsets[0]))))
    columns, rows = (np.rint(steps * part / (offsets[1] - offsets[0])).astype(int) + len(offsets) // 2 for part in trail)
    line = np.zeros((len(offsets), len(offsets)))
    np.add.at(line, (rows, columns), 1.0)
    return line


def _spread(intensity: Floats, kernel: NDArray[np.generic]) -> Floats:
    spread = signal.fftconvolve(intensity, kernel.astype(float) / kernel.sum(), mode="same")
    return np.asarray(np.maximum(spread, 0))


def seeing_spread(fwhm_pixels: float, beta: float, silicon: Silicon, blur: Blur = SHARP) -> NDArray[np.float32]:
    """Return the share of a star's light on a pixel, as `optics.point_spread` does."""
    offsets = offsets_pixels()
    return on_pixels(blur.apply(moffat(np.hypot(offsets, offsets[:, None]), fwhm_pixels, beta)), silicon)


def core_variance(fwhm_pixels: float) -> float:
    """Return the variance of a Gaussian of this FWHM, pixel^2."""
    return float((fwhm_pixels / _SIGMAS) ** 2)
