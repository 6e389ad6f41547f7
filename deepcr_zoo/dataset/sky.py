"""The sky level of an exposure: MDRIZSKY or a clipped median."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray

Source = Literal["mdrizsky", "measured"]

SAMPLE = 1_000_000  # number of pixels used for a sky level: its error is then 0.001 of the noise


@dataclass(frozen=True)
class SkyLevel:
    """A sky level, and whether it is MDRIZSKY of AstroDrizzle or comes from `measure_sky`."""

    electron: float
    source: Source


def choose_sky_level(preferred: Source, mdrizsky: Sequence[float | None], measured: float) -> SkyLevel:
    """Return the mean MDRIZSKY of all chips (e-) if it is preferred and complete, else the measured level.

    None stands for a chip without the keyword. Chips that all have 0 count as chips without it.
    """
    levels = [level for level in mdrizsky if level is not None]
    if preferred == "mdrizsky" and len(levels) == len(mdrizsky) and all(map(math.isfinite, levels)) and any(levels):
        return SkyLevel(float(np.mean(levels)), "mdrizsky")
    return SkyLevel(measured, "measured")


def measure_sky(images: Sequence[NDArray[np.float32]], ignored: Sequence[NDArray[np.bool_]]) -> float:
    """Return the median (e-) of the pixels that are not ignored, clipped at 3 sigma in at most ten rounds."""
    pixels = np.concatenate([image[~left_out] for image, left_out in zip(images, ignored, strict=True)])
    if not pixels.size:
        return math.nan
    step = -(-pixels.size // SAMPLE)
    clipped = sigma_clip(pixels[::step], sigma=3, maxiters=10, masked=False)
    return float(np.median(clipped))
