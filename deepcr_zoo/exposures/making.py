"""Products of an exposure, all or none: cosmic rays are found by a network or taken from a mask, and repainted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import (
    ImageWarning,
    InvalidFileError,
    MachineWarning,
    ModelWarning,
    OutputError,
    catching_warnings,
    collecting_warnings,
    warn,
)
from deepcr_zoo.exposures import pictures, products
from deepcr_zoo.exposures.fitsfiles import check_memory
from deepcr_zoo.exposures.maskfiles import MaskFile, read_masks
from deepcr_zoo.exposures.noisecheck import level_cautions
from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.pictures import Panels
from deepcr_zoo.exposures.plan import Plan, check_existing, damaged
from deepcr_zoo.exposures.products import ChipMask, Count, NewPixels
from deepcr_zoo.exposures.provenance import MaskProvenance
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.exposures.selection import Selection
from deepcr_zoo.exposures.suspicions import suspicions
from deepcr_zoo.files import write_failure, write_together
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.models.containers import Repainted
from deepcr_zoo.models.images import TOUCHING, groups
from deepcr_zoo.models.skynoise import FrameNoise, frame_noise
from deepcr_zoo.zoo.cards import contract_sha256, read_card
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.registry import ResolvedModel

if TYPE_CHECKING:  # torch is loaded when a network is: finished products and stored probabilities need none
    from deepcr_zoo.models.model import MaskModel

MOST_TRIES = 5
"""To write products, while other processes write the same."""

_BYTES_PER_PIXEL, _PICTURE_BYTES, _COPIES = 21, 4, 3
"""Memory for cleaning beyond the exposure itself, measured with images of 4 to 16 million pixels: for each pixel, for each
pixel of a picture, and as copies of the file."""

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


def check_room(exposure: Exposure, plan: Plan) -> None:
    """Warn if cleaning needs more than half of the free memory; raise `InvalidFileError` if it needs more than all."""
    pixels = sum(chip.pixels.size for chip in exposure.chips)
    needed = _BYTES_PER_PIXEL * pixels + _COPIES * len(exposure.data) + (_PICTURE_BYTES * pixels if plan.picture else 0)
    what = f"{exposure.path}: cleaning needs about {needed / 1e9:.2g} GB"
    check_memory(needed, what)
    if short := memory_shortage(2 * needed):
        warn(f"{what}, {short}", MachineWarning)


def make(exposure: Exposure, selection: Selection, plan: Plan, options: CleanOptions) -> tuple[Count, list[str]]:
    """Write all products of an exposure, or none; return the count of cosmic rays and further cautions."""
    work = chip_work(exposure, selection, plan, options)
    chip_masks, filled, panels = [], [], []
    suspect: list[str] = []
    with collecting_warnings(ImageWarning) as warned:
        for chip in exposure.chips:
            image, found, repainted = work.clean(chip)
            chip_masks.append(found)
            suspect += suspicions(found, image, exposure.instrument)
            if repainted is not None:
                filled.append(in_own_unit(chip, repainted, work.unit, found.mask))
            if plan.picture:
                shown = None if repainted is None else repainted.values
                panels.append(Panels(f"{chip.name or 'chip'} {chip.version}", np.ma.getdata(image), found.mask, shown))
    cautions = [*([] if work.unit is None else level_cautions(exposure.chips)), *(text for _, text in warned), *suspect]
    history = [*selection.cautions, *cautions]
    contents = {}
    if plan.copy:
        pixels = filled if work.fill else None
        contents[plan.copy] = products.cleaned_file(exposure, chip_masks, pixels, plan.copy_provenance, history)
    if plan.picture:
        heading = f"{exposure.path.name}: {selection.mask_reference}, threshold {selection.threshold:g}"
        contents[plan.picture] = pictures.draw(panels, heading, plan.picture_made_by)
    contents[plan.mask] = products.mask_file(exposure, chip_masks, plan.mask_provenance, history)
    _write(contents, plan, exposure, options.overwrite)
    return products.count(chip_masks), cautions


def _without_finished(contents: dict[Path, bytes], plan: Plan, exposure: Exposure) -> dict[Path, bytes]:
    """Return the products that are missing or damaged: the others stay, which another process may have written meanwhile."""
    check_existing(plan, overwrite=False)
    problems = damaged(plan, exposure)
    return {path: data for path, data in contents.items() if path in problems or not os.path.lexists(path)}


def _check_written(plan: Plan) -> None:
    """Raise `OutputError` if another process has replaced some of the products: the one that ends last sees the mixture."""
    try:
        check_existing(plan, overwrite=False)
    except OutputError as error:
        raise OutputError(
            f"{plan.mask.parent}: another process wrote other products there meanwhile: run again ({error})"
        ) from None


def _write(contents: dict[Path, bytes], plan: Plan, exposure: Exposure, overwrite: bool) -> None:
    """Write products, which nobody may read who may not read the exposure; of another process's, the same ones stay."""
    folder = plan.mask.parent
    for _ in range(MOST_TRIES):
        if overwrite:
            check_existing(plan, overwrite)  # a file of the user may have come there meanwhile, which is never replaced
        wanted = contents if overwrite else _without_finished(contents, plan, exposure)
        if not wanted:
            return
        new = [path for path in wanted if not os.path.lexists(path)]
        try:
            write_together(wanted, new, exposure.permissions)
        except OSError as error:
            if not any(os.path.lexists(path) for path in new):
                raise write_failure(folder, error, "choose another --output-dir") from None
            continue  # another process was quicker
        _check_written(plan)
        return
    raise OutputError(f"{folder}: other processes write products there at the same time: run again")


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
    searched = chip.searched
    probability = np.where(searched, model.predict(image, noise=known), np.float32(0))
    found = _grown(chip, probability > provenance.threshold, searched, provenance, noise)
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
    mask, searched = masks[chip.hdu], chip.searched
    if lost := int((mask & ~searched).sum()):
        warn(
            f"{chip.label}: {lost:,} pixels of the mask are not usable or near saturation: they stay as they are",
            ImageWarning,
        )
    return _grown(chip, mask & searched, searched, provenance, noise)


def _grown(
    chip: Chip, mask: NDArray[np.bool_], searched: NDArray[np.bool_], provenance: MaskProvenance, noise: FrameNoise
) -> ChipMask:
    _, events = groups(mask)
    if provenance.grow:
        from scipy.ndimage import binary_dilation

        mask = binary_dilation(mask, TOUCHING, iterations=provenance.grow) & searched
    return ChipMask(chip, mask, events, None, noise)


def in_own_unit(chip: Chip, cleaned: Repainted, unit: PixelUnit | None, mask: NDArray[np.bool_]) -> NewPixels:
    """Return the repainted pixels of a chip in the unit of its file."""
    unsure = cleaned.uncertainty
    return NewPixels(
        chip.from_unit(cleaned.values, unit, mask),
        None if unsure is None else chip.difference_from_unit(unsure, unit, mask),
    )


def _fill(selection: Selection, options: CleanOptions, image: Any, found: ChipMask) -> Repainted:
    """Repaint an image where its cosmic rays are."""
    from deepcr_zoo.models.imagecleaning import filler
    from deepcr_zoo.models.model import InpaintModel

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
    contract: str  # of its card, which may change where no registry locks it
    device: str
    engine: str
    model: ResolvedModel = field(compare=False)


def _model(model: ResolvedModel, options: CleanOptions) -> Any:
    sha256 = model.locked.weights.sha256
    contract = contract_sha256(read_card(model))
    return _loaded(_Load(model.reference, model.root, sha256, contract, options.device, options.engine, model))


@lru_cache(maxsize=4)
def _loaded(request: _Load) -> Any:
    """Load a model and keep it for the next file, without its warnings, which are in the selection's cautions."""
    from deepcr_zoo.models.model import load_resolved

    with catching_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        return load_resolved(request.model, request.device, engine=request.engine)
