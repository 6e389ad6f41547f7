"""The point spread of a star seen through the atmosphere: a Moffat profile (Moffat 1969), out of focus or trailed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from deepcr_zoo.simulate.charge import Floats, Silicon
from deepcr_zoo.simulate.optics import offsets_pixels, on_pixels

_HOLE = 0.35  # inner radius of the ring of a star out of focus / outer radius: the mirror's obstruction (assumed)
_PATH_POINTS = 2000
_UNEVENNESS = (0.0, 1.5)  # of the logarithm of a star's speed along its trail
_CROOKEDNESS = (0.0, 0.06)  # of its way across / length
_SIGMAS = 2 * np.sqrt(2 * np.log(2))  # FWHM / sigma of a Gaussian


def moffat(radius_pixels: Floats, fwhm_pixels: float, beta: float) -> Floats:
    """Return a Moffat profile whose value at the centre is 1."""
    core = fwhm_pixels / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return np.asarray((1 + (radius_pixels / core) ** 2) ** -beta)


@dataclass(frozen=True)
class Blur:
    """What spreads the image of a star beside the seeing, in pixels."""

    defocus: float = 0.0  # outer radius of the ring
    trail: Floats | None = None  # where the star was at equal intervals, along x and y, shape (N, 2)

    def apply(self, intensity: Floats) -> Floats:
        """Return an intensity on the grid of `optics.offsets_pixels` after it."""
        offsets = offsets_pixels()
        if self.defocus:
            radius = np.hypot(offsets, offsets[:, None])
            intensity = _spread(intensity, (radius <= self.defocus) & (radius >= _HOLE * self.defocus))
        if self.trail is not None:
            intensity = _spread(intensity, _line(offsets, self.trail))
        return intensity


SHARP = Blur()


def wandering(length_pixels: float, rng: np.random.Generator) -> Floats:
    """Return where a star was at equal intervals, shape (N, 2): along a line, unevenly, and not quite straight.

    Its wander is a sum of five waves whose amplitudes fall with their frequency (assumed, as all numbers here).
    """
    time = np.linspace(0, 1, _PATH_POINTS)
    waves = np.arange(1, 6)[:, None]

    def wander() -> Floats:
        amplitudes, phases = rng.normal(size=waves.shape) / waves, rng.random(waves.shape)
        return np.asarray((amplitudes * np.sin(2 * np.pi * (waves * time + phases))).sum(axis=0))

    progress = np.cumsum(np.exp(rng.uniform(*_UNEVENNESS) * wander()))
    along = (progress - progress[0]) / np.ptp(progress) - 0.5
    across = rng.uniform(*_CROOKEDNESS) * wander()
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(length_pixels * np.stack([along, across], axis=1) @ turn)


def _line(offsets: Floats, trail: Floats) -> Floats:
    """Return a trail about the centre of the grid."""
    columns, rows = (np.rint(trail / (offsets[1] - offsets[0])).astype(int) + len(offsets) // 2).T
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
