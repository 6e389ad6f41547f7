"""Sky level and noise of whole exposures, for networks that need no unit: these see asinh((pixel - sky) / noise)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.images import Image, Mask
from deepcr_zoo.zoo.sections import Section

EVERYWHERE: Section = (slice(None), slice(None))

# decisions/2026-11-28-unit-free-input.md says what these are and why they are part of what a network means
_SAMPLE = 250_000  # pairs of neighbours in each direction: the noise is then known to 0.3 %
_TIES = 0.01  # of the spread of sums: whole numbers tie at the median, and rounding must not choose among them
_START = 0.955  # share of a Gaussian within 2 sigma
_NOISE_CLIP, _CLIPPED = 3.0, 0.9866  # in sigma; standard deviation of a unit Gaussian cut there
_SKY_CLIP = 2.0
_ROUNDS = 10


@dataclass(frozen=True)
class SkyNoise:
    """Sky level and noise of a frame, or of the section that one amplifier reads, in the unit of the pixels."""

    sky: float
    noise: float  # sigma of a pixel of the sky; positive
    section: Section = EVERYWHERE


FrameNoise = tuple[SkyNoise, ...]
"""Sky and noise of each amplifier of a frame; of the first one where no section says otherwise."""


def frame_noise(pixels: Image, valid: Mask | None = None, sections: Sequence[Section] = ()) -> FrameNoise:
    """Return sky and noise of a frame (H, W) or of stamps of one (N, H, W), of each section of it if there are some."""
    return tuple(_measured(pixels, valid, section) for section in sections or [EVERYWHERE])


def sky_and_noise(found: FrameNoise, shape: tuple[int, ...]) -> tuple[Image, Image]:
    """Return sky and noise of each pixel of a frame, each of shape (H, W)."""
    whole = [np.broadcast_to(np.float32(value), shape) for value in (found[0].sky, found[0].noise)]
    if len(found) == 1:
        return whole[0], whole[1]
    sky, noise = (one.copy() for one in whole)
    for one in found[1:]:
        sky[one.section], noise[one.section] = one.sky, one.noise
    return sky, noise


def _measured(pixels: Image, valid: Mask | None, section: Section) -> SkyNoise:
    rows, columns = section
    part = pixels[..., rows, columns]
    good = np.ones(part.shape, dtype=bool) if valid is None else valid[..., rows, columns]
    step = max(1, isqrt(part.size // _SAMPLE))
    noise = _noise(part, good, step)
    chosen = good[..., ::step, ::step]
    values = part[..., ::step, ::step][chosen].astype(np.float64)
    if not values.size:
        return SkyNoise(0.0, noise, section)
    sky = float(np.median(values))
    for _ in range(_ROUNDS):  # towards the most frequent value: faint sources pull a median up
        near = values[np.abs(values - sky) <= _SKY_CLIP * noise]
        sky = float(near.mean()) if near.size else sky
    return SkyNoise(sky, noise, section)


def _noise(pixels: Image, good: Mask, step: int) -> float:
    """Return the smaller scatter of neighbours along rows and along columns: traces and lines of spectra add to one."""
    sizes = [_dark_differences(pixels, good, axis, step) for axis in (-2, -1)]
    scatters = [scatter for size in sizes if (scatter := _scatter(size)) > 0]
    if scatters:
        return float(min(scatters) / np.sqrt(2))
    steps = np.concatenate(sizes)  # nearly all neighbours are alike: whole numbers that hide the noise, or a blank frame
    return float(min(steps[steps > 0], default=1.0))


def _dark_differences(pixels: Image, good: Mask, axis: int, step: int) -> NDArray[np.float64]:
    """Return the sizes of differences of the neighbours with a low sum.

    Sums and differences of noise are independent, so that the choice leaves out stars and cosmic rays, not noise.
    """
    known = _sampled(good, axis, 0, step) & _sampled(good, axis, 1, step)
    one, other = (_sampled(pixels, axis, first, step)[known].astype(np.float64) for first in (0, 1))
    if not one.size:
        return np.empty(0)
    sums = one + other
    low, median = np.quantile(sums, [0.16, 0.5])
    differences = (one - other)[sums <= median + _TIES * (median - low)]
    return np.asarray(np.abs(differences - np.median(differences)))


def _sampled(values: NDArray[Any], axis: int, first: int, step: int) -> NDArray[Any]:
    """Return the first or the second (1) of neighbours along an axis, on a regular grid."""
    last = values.shape[axis] - 1 + first
    here: NDArray[Any] = values[..., first:last, :] if axis == -2 else values[..., first:last]
    return here[..., ::step, ::step]


def _scatter(sizes: NDArray[np.float64]) -> float:
    """Return the standard deviation of differences of this size, clipped; 0 if nearly all are 0."""
    sigma = float(np.quantile(sizes, _START)) / 2 if sizes.size else 0.0
    for _ in range(_ROUNDS):
        sigma = float(np.sqrt(np.mean(sizes[sizes <= _NOISE_CLIP * sigma] ** 2))) / _CLIPPED if sigma else 0.0
    return sigma
