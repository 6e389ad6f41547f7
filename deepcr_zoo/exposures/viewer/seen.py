"""What the viewer shows of an exposure: the pixels of each chip, the score of each pixel, and what another method masks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.cleaning import read_as_asked
from deepcr_zoo.exposures.fitsfiles import (
    extension_name,
    extension_version,
    first_header,
    image_values,
    is_image,
    opened,
    read_unchanged,
)
from deepcr_zoo.exposures.making import ChipWork, chip_work, in_own_unit
from deepcr_zoo.exposures.noisecheck import stated_noise
from deepcr_zoo.exposures.options import NO_INPAINTING, CleanOptions
from deepcr_zoo.exposures.plan import Plan, make_plan
from deepcr_zoo.exposures.products import PROBABILITY_EXTENSION, ChipMask
from deepcr_zoo.exposures.provenance import difference
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.exposures.selection import Selection, select
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.registries import default_registry

Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]
"""One for each pixel (H, W), 0 to 1: a pixel whose score is above the threshold is masked."""

Finder = Callable[[Chip], Scores]
"""What gives the scores of a chip."""

LACOSMIC = "lacosmic"
LACOSMIC_SIGCLIP, LACOSMIC_OBJLIM, LACOSMIC_READ_NOISE = 4.5, 5.0, 6.5
"""astroscrappy's defaults; the read noise is for cameras whose own is not known, e-."""


@dataclass(frozen=True)
class SeenChip:
    """One chip; all arrays have the shape (H, W)."""

    chip: Chip
    _scores: Future[Scores] = field(default_factory=Future)
    _other: Future[Scores | None] = field(default_factory=Future)

    @property
    def scores(self) -> Scores:
        """One for each pixel; waits until they are there."""
        return self._scores.result()

    @property
    def other(self) -> Scores | None:
        """Those of the method beside it, if there is one; waits as `scores`."""
        return self._other.result()

    def is_found_within(self, seconds: float) -> bool:
        """True as soon as its cosmic rays are found."""
        futures: list[Future[Any]] = [self._scores, self._other]
        return not wait(futures, seconds).not_done

    def find(self, scores: Finder, other: Finder | None) -> None:
        """Find its cosmic rays, once."""
        self._scores.set_result(scores(self.chip))
        self._other.set_result(None if other is None else other(self.chip))


@dataclass(frozen=True)
class Seen:
    """An exposure with the scores of its pixels, and what repaints them."""

    exposure: Exposure
    selection: Selection
    plan: Plan
    work: ChipWork
    chips: list[SeenChip]
    compared: str | None  # name of the method beside it
    finders: tuple[Finder, Finder | None]  # what gives the scores, and those of the method beside it

    def find(self, reporter: Reporter) -> None:
        """Find the cosmic rays of all chips, which others may wait for."""
        for chip in reporter.track(self.chips, "finding cosmic rays", len(self.chips)):
            chip.find(*self.finders)

    def repainted(self, chip: Chip, mask: Mask) -> NDArray[np.float32]:
        """Return a chip in the unit of its file with the masked pixels repainted, shape (H, W)."""
        cleaned = chip.pixels.copy()
        if self.work.fill is not None and mask.any():
            image, noise = self.work.prepare(chip)
            filled = self.work.fill(image, ChipMask(chip, mask, 0, None, noise))
            cleaned[mask] = in_own_unit(chip, filled, self.work.unit, mask).values
        return cleaned


def look_at(path: Path, options: CleanOptions, compared: str | None) -> Seen:
    """Read an exposure; `Seen.find` finds its cosmic rays, but does not compute scores that ``clean --prob`` has written.

    Both raise as `deepcr_zoo.clean_file`.
    """
    options = replace(options, prob=options.mask is None)
    options.check()
    beside = None if compared in (None, LACOSMIC) else replace(options, model=compared, mask=None, prob=True)
    if beside is not None:
        beside.check()
    exposure = read_as_asked(path, options)
    selection = select(exposure, default_registry(), options)
    plan = make_plan(exposure, selection, options)
    work = chip_work(exposure, selection, plan, options)
    other = _lacosmic if compared == LACOSMIC else None if beside is None else _scores_of(exposure, beside)
    own = _stored_or(partial(_scores, work), plan, exposure)
    return Seen(exposure, selection, plan, work, [SeenChip(chip) for chip in exposure.chips], compared, (own, other))


def _stored_or(computed: Finder, plan: Plan, exposure: Exposure) -> Finder:
    """Return what gives the scores that are stored, or computes them; nothing is read before the first chip is asked for."""

    @cache
    def finder() -> Finder:
        return _stored_scores(plan, exposure) or computed

    return lambda chip: finder()(chip)


def _scores(work: ChipWork, chip: Chip) -> Scores:
    found = work.find(chip, *work.prepare(chip))
    return found.mask.astype(np.float32) if found.probability is None else found.probability


def _scores_of(exposure: Exposure, options: CleanOptions) -> Finder:
    """Return what gives the scores of another network."""
    options = replace(options, inpaint=NO_INPAINTING)
    selection = select(exposure, default_registry(), options)
    return partial(_scores, chip_work(exposure, selection, make_plan(exposure, selection, options), options))


def _lacosmic(chip: Chip) -> Scores:
    """Return the mask of L.A.Cosmic as scores 0 and 1."""
    unit: PixelUnit | None = "electron" if chip.has_electrons else None
    mask = Lacosmic(LACOSMIC_OBJLIM, fmean(stated_noise(chip) or [LACOSMIC_READ_NOISE])).mask(
        chip.in_unit(unit), LACOSMIC_SIGCLIP
    )
    return (mask & chip.searched).astype(np.float32)


def _stored_scores(plan: Plan, exposure: Exposure) -> Finder | None:
    """Return what gives the scores in the mask file of `plan`; None if it was made otherwise, or is not whole."""
    try:
        header = first_header(plan.mask)
        if header is None or difference(plan.mask_provenance, header) is not None:
            return None
        with opened(read_unchanged(plan.mask), plan.mask) as (hdus, _, cautions):
            named = [hdu for hdu in hdus if extension_name(hdu) == PROBABILITY_EXTENSION and is_image(hdu)]
            found = {extension_version(hdu): np.array(image_values(hdu, str(plan.mask)), np.float32) for hdu in named}
    except (OSError, InvalidFileError):
        return None
    are_whole = all(_are_scores(found.get(chip.version), chip) for chip in exposure.chips)
    return (lambda chip: found[chip.version]) if are_whole and not cautions else None


def _are_scores(scores: Scores | None, chip: Chip) -> bool:
    return scores is not None and scores.shape == chip.pixels.shape and bool(((scores >= 0) & (scores <= 1)).all())
