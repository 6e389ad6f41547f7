"""Usable pixels: finite, in range, not flagged bad and not saturated; one definition for inference and for the build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.models.images import Mask, has_value

BLEEDING = 7
"""Side in pixels of the square around a saturated pixel where its charge may have bled (Zhang & Bloom 2020)."""

EVERY_BIT = -1  # an integer with all bits set


@dataclass(frozen=True)
class QualityBits:
    """DQ bits by their meaning, each as one number; a pixel with any other bit is bad."""

    usable: int  # bits that leave a pixel usable
    saturated: int

    @property
    def bad(self) -> int:
        """Return the bits that make a pixel unusable for another reason than saturation."""
        return EVERY_BIT & ~(self.usable | self.saturated)


def combined(bits: Iterable[int]) -> int:
    """Return several bits as one number."""
    return int(np.bitwise_or.reduce(np.array(list(bits), dtype=np.int64), initial=0))


def has_bits(flags: NDArray[np.integer], bits: int) -> Mask:
    """Return where DQ flags hold any of these bits."""
    return np.asarray((flags.astype(np.int64) & bits) != 0)


def bad_pixels(pixels: NDArray[np.floating], flags: NDArray[np.integer] | None, bits: QualityBits) -> Mask:
    """Return the pixels without a value or with a bad flag; saturated ones are not among them."""
    bad = ~has_value(pixels)
    return bad if flags is None else bad | has_bits(flags, bits.bad)


def saturated_pixels(
    pixels: NDArray[np.floating], flags: NDArray[np.integer] | None, bits: QualityBits, level: float | None
) -> Mask:
    """Return the pixels that are saturated by their flag or above `level`, which has the unit of the pixels."""
    with np.errstate(invalid="ignore"):
        saturated = np.zeros(pixels.shape, dtype=bool) if level is None else pixels > level
    return saturated if flags is None else saturated | has_bits(flags, bits.saturated)


def near(pixels: Mask, side: int = BLEEDING) -> Mask:
    """Return the pixels within a square of this side around those given."""
    return np.asarray(ndimage.maximum_filter(pixels, size=side)) if pixels.any() else pixels
