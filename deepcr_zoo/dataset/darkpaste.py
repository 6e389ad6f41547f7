"""Label method dark_paste: cosmic rays of darks are added to science exposures, whose own cosmic rays are ignored.

After Chen et al. 2024 (ApJ 962, 7, doi 10.3847/1538-4357/ad1602) and the "simulate" mode of deepCR's training. One exposure
is enough, because the position of every added cosmic ray is known.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import ignore
from deepcr_zoo.dataset.darks import DarkHits, Detection, describe_shapes, read_hits
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, VisitRejectedError, check_room, largest_dither
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.exposures.usablepixels import has_bits
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.images import TOUCHING
from deepcr_zoo.zoo.recipeinstruments import detector_of


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> LabellingInMemory:
    """Add cosmic rays of the visit's darks to exposures. No scratch folder or log is used."""
    bank = read_hits(visit.darks, detection_settings(visit))
    for facts in exposures:
        _check_darks_cover(facts, bank)
        check_room(facts.shapes, visit.build.stamps)
    labelled = [_labelled(visit, facts, bank) for facts in exposures]
    by_lacosmic = visit.build.dark_paste.own == "lacosmic"
    software = f"deepcr-zoo {__version__}" + (f", astroscrappy {version('astroscrappy')}" if by_lacosmic else "")
    dither = largest_dither([(one.chips[0].image.shape, one.chips[0].wcs) for one in labelled])
    return LabellingInMemory(labelled, False, software, dither)


def draw_cosmic_rays(
    bank: Sequence[DarkHits], limits: Sequence[int], shape: tuple[int, int], random: np.random.Generator
) -> NDArray[np.float32]:
    """Return the cosmic rays (e-) of one or several darks for a chip of this shape (H, W); zero elsewhere.

    `limits` are the fewest and most darks; one may be drawn twice, with another shift. Each dark, at least as large as the
    chip, is shifted around its edges and mirrored left to right or not. It is not turned upside down: the trails of charge
    transfer run along columns, to one side.
    """
    electrons = np.zeros(shape, np.float32)
    for _ in range(random.integers(limits[0], limits[1], endpoint=True)):
        hits = bank[int(random.integers(len(bank)))]
        height, width = hits.shape
        columns = width - 1 - hits.columns if random.integers(2) else hits.columns
        rows, columns = (hits.rows + random.integers(height)) % height, (columns + random.integers(width)) % width
        inside = (rows < shape[0]) & (columns < shape[1])
        electrons[rows[inside], columns[inside]] += hits.electrons[inside]
    return electrons


def find_own_cosmic_rays(visit: PlannedVisit, facts: ExposureFacts, chips: Sequence[ChipPixels]) -> list[NDArray[np.bool_]]:
    """Return where the science exposure may have cosmic rays of its own, and pixels around them, for each chip (H, W).

    L.A.Cosmic with an ``objlim`` of 1 finds 93 to 98 % of the bright ones in simulated ACS/WFC exposures, with the values of
    Zhang & Bloom 2020 for good masks 53 to 84 %; in exchange a quarter of the pixels of star cores is ignored as well.
    Raises VisitRejectedError if the recipe uses only DQ flags and no pixel has one.
    """
    block = visit.build.dark_paste
    bits = detector_of(visit.instrument).cosmic_ray_bits
    masks = [has_bits(chip.quality, bits) for chip in chips]
    if block.own == "lacosmic":
        method = Lacosmic(block.own_objlim, facts.read_noise_or(visit.instrument.read_noise_electron))
        masks = [mask | method.mask(chip.image, block.own_sigclip) for mask, chip in zip(masks, chips, strict=True)]
    elif not any(mask.any() for mask in masks):
        raise VisitRejectedError(
            f"no pixel of {facts.name} is flagged as cosmic ray in its DQ (bits {bits}), and its own would be taught as "
            "none: expected flags, or build.dark_paste.own lacosmic"
        )
    if not block.own_grow:
        return masks
    return [ndimage.binary_dilation(mask, TOUCHING, iterations=block.own_grow) for mask in masks]


def detection_settings(visit: PlannedVisit) -> Detection:
    """Return the settings for the cosmic rays in the darks of a visit."""
    block = visit.build.dark_paste
    read_noise = visit.instrument.read_noise_electron
    snr = block.snr[0], block.snr[1]
    return Detection(snr, block.grow, block.hot_snr, visit.quality_bits, read_noise, visit.instrument)


def random_for(seed: int, *names: object) -> np.random.Generator:
    """Return the random numbers of a chip, which do not depend on the order of chips."""
    digest = hashlib.sha256(" ".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _labelled(visit: PlannedVisit, facts: ExposureFacts, bank: Sequence[Sequence[DarkHits]]) -> LabelledExposure:
    before = read_chips(facts, visit.instrument)
    limits = visit.build.dark_paste.per_exposure
    added = [
        draw_cosmic_rays(hits, limits, chip.image.shape, random_for(visit.build.seed, facts.name, chip.version))
        for chip, hits in zip(before, bank, strict=False)
    ]
    chips = [dataclasses.replace(chip, image=chip.image + more) for chip, more in zip(before, added, strict=True)]
    ignored = [
        own | ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore)
        for own, chip in zip(find_own_cosmic_rays(visit, facts, before), chips, strict=True)
    ]
    return LabelledExposure(chips, [more > 0 for more in added], ignored, [chip.image for chip in before])


def _check_darks_cover(facts: ExposureFacts, bank: Sequence[Sequence[DarkHits]]) -> None:
    shapes = [hits[0].shape for hits in bank]
    covered = all(own[0] <= dark[0] and own[1] <= dark[1] for own, dark in zip(facts.shapes, shapes, strict=False))
    if len(facts.shapes) > len(shapes) or not covered:
        raise VisitRejectedError(
            f"{facts.name} has chips of {describe_shapes(facts.shapes)} pixels, the darks of {describe_shapes(shapes)}: "
            "expected darks of that size or larger (build.dark_paste.darks)"
        )
