"""Label method given: masks of the recipe's author, one for each exposure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import ignore, quality
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, check_room, label_each
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.maskfiles import MaskFile, read_masks
from deepcr_zoo.models.baselines import medmask

MOST_MARKED = 0.5
"""Share of the pixels that count, above which a mask is taken for one of good pixels."""


def label(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path
) -> LabellingInMemory | quality.Outlier:
    """Take the masks of exposures, or return one whose masks cannot be used. No scratch folder or log is used."""
    check_room((shape for one in exposures for shape in one.shapes), visit.build.stamps)
    return label_each(exposures, visit.instrument, partial(_labelled, visit))


def scene(image: NDArray[np.float32], cosmic_rays: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an image with the masked median in place of cosmic rays, which is all that is known of the scene."""
    known = np.where(ignored, np.float32(np.nan), image)
    filled: NDArray[np.float32] = medmask(known, cosmic_rays & ~ignored)
    return np.where(ignored, np.float32(0), filled)


def why_no_masks(cosmic_rays: Sequence[NDArray[np.bool_]], ignored: Sequence[NDArray[np.bool_]]) -> str | None:
    """Return a sentence if masks mark most pixels: such masks are of good pixels."""
    counted = sum(int((~one).sum()) for one in ignored)
    marked = sum(int((mask & ~one).sum()) for mask, one in zip(cosmic_rays, ignored, strict=True))
    if marked <= MOST_MARKED * counted:
        return None
    return f"the mask marks {100 * marked / counted:.3g} % of the pixels that count: expected 1 for a cosmic ray alone"


def _labelled(visit: PlannedVisit, facts: ExposureFacts, chips: list[ChipPixels]) -> LabelledExposure:
    assert facts.masks.cosmic_rays is not None  # see plans
    cosmic_rays = _on_chips(facts.masks.cosmic_rays, chips)
    ignored = [ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore) for chip in chips]
    if facts.masks.ignore is not None:
        own = _on_chips(facts.masks.ignore, chips)
        ignored = [one | other for one, other in zip(ignored, own, strict=True)]
    if why := why_no_masks(cosmic_rays, ignored):
        raise InvalidFileError(f"{facts.masks.cosmic_rays.where}: {why}")
    expected = [scene(chip.image, mask, one) for chip, mask, one in zip(chips, cosmic_rays, ignored, strict=True)]
    return LabelledExposure(chips, cosmic_rays, ignored, expected)


def _on_chips(file: MaskFile, chips: Sequence[ChipPixels]) -> list[NDArray[np.bool_]]:
    """Return the masks of the parts of chips that see light; masks of whole frames are cut to them."""
    masks = read_masks(file, [chip.version for chip in chips])
    return [_on_chip(mask, chip, file.where) for mask, chip in zip(masks, chips, strict=True)]


def _on_chip(mask: NDArray[np.bool_], chip: ChipPixels, where: str) -> NDArray[np.bool_]:
    if mask.shape == chip.image.shape:
        return mask
    if mask.shape == chip.frame_shape:
        return mask[chip.lit]
    found, expected = (" x ".join(map(str, shape)) for shape in (mask.shape, chip.image.shape))
    raise InvalidFileError(f"{where}: the mask has {found} pixels: expected {expected}, as its exposure")
