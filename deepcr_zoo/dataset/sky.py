"""The sky level of an exposure, in electrons, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray

Source = Literal["mdrizsky", "measured"]

SAMPLE = 1_000_000
"""Pixels that a level is measured on: its error is then 0.001 of the noise."""


@dataclass(frozen=True)
class SkyLevel:
    """A sky level.

    Attributes
    ----------
    electron : float
    source : {'mdrizsky', 'measured'}
        AstroDrizzle's own, which it writes into MDRIZSKY, or `measure`.
    """

    electron: float
    source: Source


def sky_level(wanted: Source, mdrizsky: Sequence[float | None], measured: float) -> SkyLevel:
    """The sky level of an exposure: the mean MDRIZSKY of its chips if that is wanted and there, else as measured.

    Parameters
    ----------
    wanted : {'mdrizsky', 'measured'}
    mdrizsky : sequence of float or None
        Of each chip, e-; None where the keyword is absent. Zero counts as absent.
    measured : float
        What `measure` gives.
    """
    levels = [level for level in mdrizsky if level is not None]
    if wanted == "mdrizsky" and len(levels) == len(mdrizsky) and all(map(math.isfinite, levels)) and any(levels):
        return SkyLevel(float(np.mean(levels)), "mdrizsky")
    return SkyLevel(measured, "measured")


def measure(images: Sequence[NDArray[np.float32]], ignored: Sequence[NDArray[np.bool_]]) -> float:
    """The median of the pixels that are not ignored, clipped at 3 sigma until nothing changes, e-."""
    pixels = np.concatenate([image[~left_out] for image, left_out in zip(images, ignored, strict=True)])
    if not pixels.size:
        return math.nan
    step = -(-pixels.size // SAMPLE)
    clipped = sigma_clip(pixels[::step], sigma=3, maxiters=10, masked=False)
    return float(np.median(clipped))
