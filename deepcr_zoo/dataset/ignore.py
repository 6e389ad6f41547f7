"""Pixels that count neither in training nor in metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset.exposures import ChipPixels
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.exposures.usablepixels import QualityBits, bad_pixels, combined, saturated_pixels
from deepcr_zoo.models.images import near
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipe import IgnoreBlock


def quality_bits(block: IgnoreBlock, detector: Instrument) -> QualityBits:
    """Return the meaning of the DQ bits; the recipe's bits, else those of cosmic rays, leave a pixel usable.

    Exposures from the archive may carry cosmic-ray bits; excluding their pixels would hide every cosmic ray. Hot and warm
    pixels are excluded, though `clean` searches them: in dithered exposures they would be labelled as cosmic rays.
    """
    saturated = combined(detector.saturation.bits) if detector.saturation else 0
    if block.keep_bits is not None:
        usable = combined(block.keep_bits)
        return QualityBits(usable, saturated & ~usable)
    if not detector.has_flags:
        return QualityBits(detector.cosmic_ray_bits, saturated)
    if detector.saturation is None or detector.cosmic_ray_bit is None:
        raise InvalidDocumentError(
            f"build.ignore.keep_bits: expected bits, because {detector.name} is described without those of its DQ"
        )
    return QualityBits(detector.cosmic_ray_bits, saturated)


def ignore_mask(chip: ChipPixels, bits: QualityBits, block: IgnoreBlock) -> NDArray[np.bool_]:
    """Mask pixels that are not usable, and those near saturation; True = excluded.

    The level of saturation and its reach (70000 e-, 7 x 7 pixels) follow Zhang & Bloom 2020, not verified.
    """
    saturated = saturated_pixels(chip.image, chip.quality, bits, block.saturation_electron)
    if chip.saturated is not None:
        saturated |= chip.saturated
    return chip.masked | bad_pixels(chip.image, chip.quality, bits) | near(saturated, block.saturation_dilation)
