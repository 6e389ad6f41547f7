"""Which pixels count neither in training nor in metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipe import IgnoreBlock


def kept_bits(block: IgnoreBlock, detector: Instrument) -> int:
    """The DQ bits that do not exclude a pixel, as one number: those of the recipe, else saturation and cosmic rays.

    An exposure from the archive may carry cosmic-ray bits; to exclude their pixels would hide every cosmic ray.

    Raises
    ------
    InvalidDocumentError
        If the table of instruments does not tell them.
    """
    if block.keep_bits is not None:
        return _together(block.keep_bits)
    if detector.saturation is None or detector.cosmic_ray_bit is None:
        raise InvalidDocumentError(
            f"build.ignore.keep_bits: expected bits, because zoo/instruments.yaml does not tell those of {detector.name}"
        )
    return _together(detector.saturation.bits) | cosmic_ray_bits(detector)


def cosmic_ray_bits(detector: Instrument) -> int:
    """The DQ bits that mark cosmic rays, as one number; 0 where DQ has none for them."""
    return _together([bit for bit in (detector.cosmic_ray_bit, detector.combination_bit) if bit is not None])


def ignore_mask(
    image: NDArray[np.float32], quality: NDArray[np.integer], kept: int, block: IgnoreBlock
) -> NDArray[np.bool_]:
    """Pixels with a DQ flag that is not kept, saturated ones and those near them, and those without a value.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
        e-.
    quality : ndarray of int, shape (H, W)
        DQ flags.
    kept : int
        DQ bits that do not exclude a pixel, see `kept_bits`.
    block : IgnoreBlock
        Level of saturation and how far it reaches (70000 e-, 7 x 7 pixels after Zhang & Bloom 2020, not verified).

    Returns
    -------
    ndarray of bool, shape (H, W)
        True = excluded.
    """
    saturated = image > block.saturation_electron
    near = ndimage.maximum_filter(saturated, size=block.saturation_dilation)
    flagged = (quality.astype(np.int64) & ~kept) != 0
    return np.asarray(flagged | near | ~np.isfinite(image))


def _together(bits: Sequence[int]) -> int:
    return int(np.bitwise_or.reduce(np.array(bits, dtype=np.int64))) if bits else 0
