"""Labels by dark exposures: their cosmic rays are added to science exposures, whose own are kept out of loss and metrics.

After Chen et al. 2024 (ApJ 962, 7, doi 10.3847/1538-4357/ad1602) and the "simulate" mode of deepCR's training. One exposure
suffices: what is to be found is known because it was put there.
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
from deepcr_zoo.dataset import darks, ignore
from deepcr_zoo.dataset.crsplit import TOUCHING
from deepcr_zoo.dataset.darks import DarkHits, Detection
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, detector_of, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, VisitRejectedError, check_room, largest_dither
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.models.baselines import Lacosmic


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> PastedLabelling:
    """Add cosmic rays of darks to exposures.

    Parameters
    ----------
    visit : PlannedVisit
        With its darks.
    exposures : sequence of ExposureFacts
        Those of its exposures that are sound.
    scratch, log : Path
        Not needed.

    Raises
    ------
    VisitRejectedError
        If the darks have smaller or fewer chips, chips are too small for stamps, or an exposure has no DQ flags of cosmic
        rays where the recipe goes by these.
    InvalidFileError
        If a file has changed or gone since the visit was planned.
    MissingExtraError
        If L.A.Cosmic is asked for and astroscrappy is not installed.
    """
    bank = darks.bank(visit.darks, _detection(visit))
    for facts in exposures:
        _check_darks_cover(facts, bank)
        check_room(facts.shapes, visit.build.stamps)
    return PastedLabelling(visit, [_labelled(visit, facts, bank) for facts in exposures])


class PastedLabelling:
    """Exposures with the cosmic rays that were added to them (see `labelling.Labelling`).

    Parameters
    ----------
    visit : PlannedVisit
    exposures : sequence of LabelledExposure
    """

    by_others = False

    def __init__(self, visit: PlannedVisit, exposures: Sequence[LabelledExposure]) -> None:
        self._exposures = exposures
        by_lacosmic = visit.build.dark_paste.own == "lacosmic"
        self.software = f"deepcr-zoo {__version__}" + (f", astroscrappy {version('astroscrappy')}" if by_lacosmic else "")
        self.largest_dither_arcsec = largest_dither([(one.chips[0].image.shape, one.chips[0].wcs) for one in exposures])

    def labelled(self, index: int) -> LabelledExposure:
        """An exposure with its labels; what it would see without cosmic rays is what it saw before."""
        return self._exposures[index]

    def aligned(self, index: int) -> NDArray[np.float32]:
        """The first chip: exposures are not compared."""
        return self._exposures[index].chips[0].image

    def fit_rms_pixels(self, index: int) -> None:
        """None: nobody has aligned them."""


def draw(
    bank: Sequence[DarkHits], limits: Sequence[int], shape: tuple[int, int], random: np.random.Generator
) -> NDArray[np.float32]:
    """The cosmic rays of one or several darks for one chip.

    Each dark is moved by so many rows and columns, around its edges, so that the chip is covered, and mirrored from left to
    right or not. It is not turned upside down: the trails of charge transfer run along columns, to one side.

    Parameters
    ----------
    bank : sequence of DarkHits
        Of the same chip, that large at least. A dark may be drawn twice, moved otherwise.
    limits : sequence of int
        Fewest and most darks.
    shape : tuple of int
        Rows and columns of the chip.
    random : Generator

    Returns
    -------
    ndarray of float32, shape (H, W)
        e-; zero where there is no cosmic ray, and positive where there is one.
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


def own_cosmic_rays(visit: PlannedVisit, facts: ExposureFacts, chips: Sequence[ChipPixels]) -> list[NDArray[np.bool_]]:
    """What may be a cosmic ray of the science exposure itself, and what lies around it, of each chip, shape (H, W).

    L.A.Cosmic with an ``objlim`` of 1 finds 93 to 98 % of the bright ones in simulated ACS/WFC exposures, with the values of
    Zhang & Bloom 2020 for good masks 53 to 84 %; in exchange a quarter of the pixels of star cores is ignored as well.

    Raises
    ------
    VisitRejectedError
        If the recipe goes by DQ flags alone and no pixel has one.
    """
    block = visit.build.dark_paste
    bits = ignore.cosmic_ray_bits(detector_of(visit.instrument))
    masks = [(chip.quality.astype(np.int64) & bits) != 0 for chip in chips]
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


def _labelled(visit: PlannedVisit, facts: ExposureFacts, bank: Sequence[Sequence[DarkHits]]) -> LabelledExposure:
    before = read_chips(facts, visit.instrument)
    limits = visit.build.dark_paste.per_exposure
    added = [
        draw(hits, limits, chip.image.shape, _random(visit.build.seed, facts.name, chip.version))
        for chip, hits in zip(before, bank, strict=False)
    ]
    chips = [dataclasses.replace(chip, image=chip.image + more) for chip, more in zip(before, added, strict=True)]
    ignored = [
        own | ignore.ignore_mask(chip.image, chip.quality, visit.kept_bits, visit.build.ignore)
        for own, chip in zip(own_cosmic_rays(visit, facts, before), chips, strict=True)
    ]
    return LabelledExposure(chips, [more > 0 for more in added], ignored, [chip.image for chip in before])


def _check_darks_cover(facts: ExposureFacts, bank: Sequence[Sequence[DarkHits]]) -> None:
    shapes = [hits[0].shape for hits in bank]
    covered = all(mine[0] <= dark[0] and mine[1] <= dark[1] for mine, dark in zip(facts.shapes, shapes, strict=False))
    if len(facts.shapes) > len(shapes) or not covered:
        mine, theirs = (" and ".join(f"{rows} x {columns}" for rows, columns in some) for some in (facts.shapes, shapes))
        raise VisitRejectedError(
            f"{facts.name} has chips of {mine} pixels, the darks of {theirs}: expected darks of that size or larger "
            "(build.dark_paste.darks)"
        )


def _detection(visit: PlannedVisit) -> Detection:
    block = visit.build.dark_paste
    read_noise = visit.instrument.read_noise_electron
    snr = block.snr[0], block.snr[1]
    return Detection(snr, block.grow, block.hot_snr, visit.kept_bits, read_noise, visit.instrument)


def _random(seed: int, *names: object) -> np.random.Generator:
    """The same random numbers for a chip in whatever order chips come."""
    digest = hashlib.sha256(" ".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
