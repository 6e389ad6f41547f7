"""Pixels that count neither in training nor in metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipe import IgnoreBlock


def kept_bits(block: IgnoreBlock, detector: Instrument) -> int:
    """Return the DQ bits that do not exclude a pixel: those of the recipe, else saturation and cosmic rays.

    Exposures from the archive may carry cosmic-ray bits; excluding their pixels would hide every cosmic ray.
    """
    if block.keep_bits is not None:
        return _combined(block.keep_bits)
    if detector.saturation is None or detector.cosmic_ray_bit is None:
        raise InvalidDocumentError(
            f"build.ignore.keep_bits: expected bits, because zoo/instruments.yaml does not list those of {detector.name}"
        )
    return _combined(detector.saturation.bits) | cosmic_ray_bits(detector)


def cosmic_ray_bits(detector: Instrument) -> int:
    """Return the DQ bits that mark cosmic rays, as one number; 0 if there are none."""
    return _combined([bit for bit in (detector.cosmic_ray_bit, detector.combination_bit) if bit is not None])


def ignore_mask(
    image: NDArray[np.float32], quality: NDArray[np.integer], kept: int, block: IgnoreBlock
) -> NDArray[np.bool_]:
    """Mask pixels with DQ flags other than `kept`, those in or near saturation, and those without a value; True = excluded.

    `image` is in e-. The level of saturation and its reach (70000 e-, 7 x 7 pixels) follow Zhang & Bloom 2020, not verified.
    """
    saturated = image > block.saturation_electron
    near = ndimage.maximum_filter(saturated, size=block.saturation_dilation)
    flagged = (quality.astype(np.int64) & ~kept) != 0
    return np.asarray(flagged | near | ~np.isfinite(image))


def _combined(bits: Sequence[int]) -> int:
    return int(np.bitwise_or.reduce(np.array(bits, dtype=np.int64))) if bits else 0
