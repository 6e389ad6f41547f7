"""Usable pixels: finite, in range, not flagged bad and not saturated; one definition for inference and for the build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.images import Mask, has_value


@dataclass(frozen=True)
class QualityBits:
    """DQ bits by their meaning, each as one number; a pixel with any other bit is bad."""

    usable: int  # bits that leave a pixel usable
    saturated: int

    @property
    def kept(self) -> int:
        """Return the bits that leave a pixel usable or mean saturation, as one number."""
        return self.usable | self.saturated

    @property
    def bad(self) -> int:
        """Return the bits that make a pixel unusable for another reason than saturation."""
        return ~self.kept


@dataclass(frozen=True)
class Quality:
    """What is known of the quality of an image's pixels; arrays have shape (H, W)."""

    flags: NDArray[np.integer] | None  # DQ flags
    masked: Mask | None  # masked without a flag (MASK, BPM)
    bits: QualityBits  # meaning of the flags
    saturation_electron: float | None  # level of the detector above its bias, e-: what is above is saturated
    saturation_stored: float | None  # lowest saturated value of the file, in its unit and with its bias


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
    """Return the pixels that are saturated by their flag, whatever their values, or above `level`, in their unit."""
    with np.errstate(invalid="ignore"):
        saturated = np.zeros(pixels.shape, dtype=bool) if level is None else pixels > level
    return saturated if flags is None else saturated | has_bits(flags, bits.saturated)
