"""The work on each chip: its cosmic rays are found by a network or taken from a mask, and repainted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import ImageWarning, InvalidFileError, ModelWarning, warn
from deepcr_zoo.exposures.maskfiles import MaskFile, read_masks
from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.plan import Plan
from deepcr_zoo.exposures.products import ChipMask, NewPixels
from deepcr_zoo.exposures.provenance import MaskProvenance
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.exposures.selection import Selection
from deepcr_zoo.models.containers import Repainted
from deepcr_zoo.models.imagecleaning import filler
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.models.skynoise import FrameNoise, frame_noise
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.registry import ResolvedModel

_TOUCHING = np.ones((3, 3))

Finder = Callable[[Chip, Any, FrameNoise], ChipMask]
"""What gives the mask of a chip, from its image and the noise of its amplifiers."""

Filler = Callable[[Any, ChipMask], Repainted]
"""What repaints the cosmic rays of an image."""


class CleanedChip(NamedTuple):
    """A chip in the unit of its models, its cosmic rays, and the image without them if they are repainted."""

    image: np.ma.MaskedArray[Any, np.dtype[np.float32]]
    found: ChipMask
    repainted: Repainted | None


@dataclass(frozen=True)
class ChipWork:
    """What is done to the chips of an exposure."""

    unit: PixelUnit | None
    by_noise: bool  # True if a network sees pixels in units of the noise
    find: Finder
    fill: Filler | None

    def prepare(self, chip: Chip) -> tuple[np.ma.MaskedArray[Any, np.dtype[np.float32]], FrameNoise]:
        """Return a chip in the unit of its models, and its sky and noise if one of them needs these."""
        image = chip.in_unit(self.unit)
        if not self.by_noise:
            return image, ()
        return image, frame_noise(np.ma.getdata(image), ~np.ma.getmaskarray(image), chip.amplifiers)

    def clean(self, chip: Chip) -> CleanedChip:
        """Find the cosmic rays of a chip, and repaint them if that is wanted."""
        image, noise = self.prepare(chip)
        found = self.find(chip, image, noise)
        return CleanedChip(image, found, None if self.fill is None else self.fill(image, found))


def chip_work(exposure: Exposure, selection: Selection, plan: Plan, options: CleanOptions) -> ChipWork:
    """Return what is done to the chips of an exposure; networks are loaded when they are used first."""
    by_noise = any(read_card(one).input.by_noise for one in selection.networks)
    find = _finder(exposure, selection, plan, options)
    return ChipWork(selection.unit, by_noise, find, partial(_fill, selection, options) if plan.repaints else None)


def _finder(exposure: Exposure, selection: Selection, plan: Plan, options: CleanOptions) -> Finder:
    """Return what finds the cosmic rays of the chips: a network, or a mask that is given."""
    provenance = plan.mask_provenance
    if isinstance(selection.mask, MaskFile):
        return partial(_find_in_mask, _given_masks(selection.mask, exposure), provenance)
    return partial(_find_with_network, selection.mask, options, provenance)


def _find_with_network(
    network: ResolvedModel, options: CleanOptions, provenance: MaskProvenance, chip: Chip, image: Any, noise: FrameNoise
) -> ChipMask:
    model: MaskModel = _model(network, options)
    known = [noise] if model.card.input.by_noise else None
    probability = np.where(chip.searched, model.predict(image, noise=known), np.float32(0))
    found = _grown(chip, probability > provenance.threshold, provenance, noise)
    return replace(found, probability=probability) if provenance.probability else found


def _given_masks(file: MaskFile, exposure: Exposure) -> dict[int, NDArray[np.bool_]]:
    """Return the mask of each chip by its place in the exposure."""
    masks = read_masks(file, [chip.version for chip in exposure.chips])
    for chip, mask in zip(exposure.chips, masks, strict=True):
        if mask.shape != chip.pixels.shape:
            raise InvalidFileError(
                f"{file.where}: has the shape {mask.shape}: expected {chip.pixels.shape}, that of {chip.where}"
            )
    return {chip.hdu: mask for chip, mask in zip(exposure.chips, masks, strict=True)}


def _find_in_mask(
    masks: dict[int, NDArray[np.bool_]], provenance: MaskProvenance, chip: Chip, image: Any, noise: FrameNoise
) -> ChipMask:
    mask = masks[chip.hdu]
    if lost := int((mask & ~chip.searched).sum()):
        warn(
            f"{chip.where}: {lost:,} pixels of the mask are not usable or near saturation: they stay as they are",
            ImageWarning,
        )
    return _grown(chip, mask & chip.searched, provenance, noise)


def _grown(chip: Chip, mask: NDArray[np.bool_], provenance: MaskProvenance, noise: FrameNoise) -> ChipMask:
    _, events = groups(mask)
    if provenance.grow:
        mask = ndimage.binary_dilation(mask, _TOUCHING, iterations=provenance.grow) & chip.searched
    return ChipMask(chip, mask, events, None, noise)


def groups(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return the number of the cosmic ray that each masked pixel belongs to, from 1, and how many there are."""
    labels, count = ndimage.label(mask, _TOUCHING)
    return labels, count


def in_own_unit(chip: Chip, cleaned: Repainted, unit: PixelUnit | None, mask: NDArray[np.bool_]) -> NewPixels:
    """Return the repainted pixels of a chip in the unit of its file."""
    unsure = cleaned.uncertainty
    return NewPixels(
        chip.from_unit(cleaned.values, unit, mask),
        None if unsure is None else chip.difference_from_unit(unsure, unit, mask),
    )


def _fill(selection: Selection, options: CleanOptions, image: Any, found: ChipMask) -> Repainted:
    """Repaint an image where its cosmic rays are."""
    network = selection.network
    inpaint = selection.inpaint_reference if network is None else _model(network, options)
    if isinstance(inpaint, InpaintModel) and inpaint.card.input.by_noise:
        return inpaint.repaint(image, found.mask, noise=[found.noise])
    return filler(inpaint, selection.unit, options.device)(image, found.mask)


@dataclass(frozen=True)
class _Load:
    """A model to load; equal requests give the same model."""

    reference: str
    root: Path
    sha256: str
    device: str
    engine: str
    model: ResolvedModel = field(compare=False)


def _model(model: ResolvedModel, options: CleanOptions) -> Any:
    sha256 = model.locked.weights.sha256
    return _loaded(_Load(model.reference, model.root, sha256, options.device, options.engine, model))


@lru_cache(maxsize=4)
def _loaded(request: _Load) -> Any:
    """Load a model and keep it for the next file, without its warnings, which are in the selection's cautions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        return load_resolved(request.model, request.device, engine=request.engine)
