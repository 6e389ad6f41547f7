"""Labels by AstroDrizzle: the median of a dithered visit, blotted back to each of its exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo.dataset import drizzle, ignore
from deepcr_zoo.dataset.drizzle import DrizzledVisit
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, detector_of, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, VisitRejectedError, check_room, largest_dither
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.errors import DrizzleError, InterruptedWorkError
from deepcr_zoo.zoo.recipe import IgnoreBlock

STEP = 64
"""Pixels between those whose position is computed; between them it is interpolated (distortion bends it by < 0.1 pixel)."""


@dataclass(frozen=True)
class GoodPixels:
    """The usable pixels of one chip.

    Attributes
    ----------
    good : ndarray of bool, shape (H, W)
    wcs : WCS
    """

    good: NDArray[np.bool_]
    wcs: WCS


def seen_by_others(chip: GoodPixels, others: Sequence[GoodPixels]) -> NDArray[np.bool_]:
    """The pixels whose centre falls on a good pixel of at least one chip of another exposure.

    Parameters
    ----------
    chip : GoodPixels
    others : sequence of GoodPixels
        All chips of the other exposures.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    seen = np.zeros_like(chip.good)
    rows, columns = _nodes(seen.shape[0]), _nodes(seen.shape[1])
    grid = np.meshgrid(rows, columns, indexing="ij")
    sky = chip.wcs.all_pix2world(grid[1], grid[0], 0)
    for other in others:
        x, y = other.wcs.all_world2pix(*sky, 0, quiet=True)
        if not _reaches(y, x, other.good.shape):
            continue
        # strip by strip: the coordinates of a whole chip would take 100 MB
        lines = [_along_columns(places, columns, seen.shape[1]) for places in (y, x)]
        for index, (first, last) in enumerate(pairwise(rows.tolist())):
            strip = np.arange(first, last + 1)
            between = ((strip - first) / (last - first))[:, None]
            there = [line[index] * (1 - between) + line[index + 1] * between for line in lines]
            seen[first : last + 1] |= _good_at(other.good, *there)
    return seen


def _good_at(good: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    row, column = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    inside = (row >= 0) & (row < good.shape[0]) & (column >= 0) & (column < good.shape[1])
    return np.asarray(inside & good[np.where(inside, row, 0), np.where(inside, column, 0)])


def _reaches(y: NDArray[np.float64], x: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    return bool(y.max() > -1 and x.max() > -1 and y.min() < shape[0] and x.min() < shape[1])


def _along_columns(places: NDArray[np.float64], nodes: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Values at every column, for each row of nodes."""
    return np.stack([np.interp(np.arange(width), nodes, line) for line in places])


def _nodes(side: int) -> NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, side, STEP), side - 1))


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> DrizzledLabelling:
    """Drizzle exposures.

    Parameters
    ----------
    visit : PlannedVisit
    exposures : sequence of ExposureFacts
        Those of its exposures that are sound.
    scratch : Path
        Folder for what AstroDrizzle writes, for as long as the labels are wanted.
    log : Path

    Raises
    ------
    VisitRejectedError
        If drizzlepac cannot label the visit, or align it well enough.
    InterruptedWorkError
        If drizzlepac was killed, or the machine failed it.
    """
    good_bits = _good_bits(visit)
    files = [one.path for one in exposures]
    try:
        drizzled = drizzle.drizzle_visit(files, scratch, visit.build.drizzle, good_bits, visit.tweakreg, log)
    except DrizzleError as error:
        # names within the data folder: the same bytes wherever it is
        told = str(error).replace(str(log), f"{log.parent.name}/{log.name}")
        raise VisitRejectedError(f"{told} (to try again, remove visits/{log.stem} from the data folder)") from None
    except InterruptedWorkError as error:
        raise InterruptedWorkError(f"{visit.name}: {error}") from None
    if drizzled.fit_rms_pixels and max(drizzled.fit_rms_pixels) > visit.build.drizzle.max_fit_rms_pixels:
        raise VisitRejectedError(_badly_aligned(visit, drizzled.fit_rms_pixels, exposures))
    labelling = DrizzledLabelling(visit, exposures, drizzled, good_bits)
    check_room((chip.good.shape for chips in labelling.good for chip in chips), visit.build.stamps)
    return labelling


class DrizzledLabelling:
    """The labels of a drizzled visit; its pixels stay on the disk (see `labelling.Labelling`).

    Parameters
    ----------
    visit : PlannedVisit
    exposures : sequence of ExposureFacts
    drizzled : DrizzledVisit
    good_bits : int
        DQ bits that AstroDrizzle did not take for bad pixels.
    """

    by_others = True

    def __init__(
        self, visit: PlannedVisit, exposures: Sequence[ExposureFacts], drizzled: DrizzledVisit, good_bits: int
    ) -> None:
        self._visit, self._exposures, self._drizzled = visit, exposures, drizzled
        self.good = [_good_pixels(self._chips(index), good_bits) for index in range(len(exposures))]
        self.software = drizzled.software
        self.largest_dither_arcsec = largest_dither([(chips[0].good.shape, chips[0].wcs) for chips in self.good])

    def labelled(self, index: int) -> LabelledExposure:
        """The labels of an exposure; what no other exposure has seen has none, and is ignored."""
        visit, chips = self._visit, self._chips(index)
        others = [chip for other, good in enumerate(self.good) if other != index for chip in good]
        labels = [self._drizzled.label(index, chip.version) for chip in chips]
        ignored = [
            ignore.ignore_mask(chip.image, chip.quality, visit.kept_bits, visit.build.ignore) | ~seen_by_others(own, others)
            for chip, own in zip(chips, self.good[index], strict=True)
        ]
        return LabelledExposure(chips, [one.cosmic_rays for one in labels], ignored, [one.blotted for one in labels])

    def aligned(self, index: int) -> NDArray[np.float32]:
        """An exposure on the grid of the visit, zero where it has seen nothing, shape (H, W)."""
        return self._drizzled.resampled(index)

    def fit_rms_pixels(self, index: int) -> float | None:
        """How well TweakReg has aligned it; None without TweakReg."""
        return self._drizzled.rms(index)

    def _chips(self, index: int) -> list[ChipPixels]:
        return read_chips(self._exposures[index], self._visit.instrument, self._drizzled.exposure(index))


def _good_bits(visit: PlannedVisit) -> int:
    """DQ bits that AstroDrizzle shall not take for bad pixels: those of saturation and cosmic rays."""
    detector = detector_of(visit.instrument)
    known = detector.saturation is not None and detector.cosmic_ray_bit is not None
    return ignore.kept_bits(IgnoreBlock() if known else visit.build.ignore, detector)


def _good_pixels(chips: Sequence[ChipPixels], good_bits: int) -> list[GoodPixels]:
    return [GoodPixels((chip.quality.astype(np.int64) & ~good_bits) == 0, chip.wcs) for chip in chips]


def _badly_aligned(visit: PlannedVisit, rms: Sequence[float], exposures: Sequence[ExposureFacts]) -> str:
    worst = int(np.argmax(rms))
    found = f"with an RMS of {rms[worst]:.2f} pixels" if math.isfinite(rms[worst]) else "not at all, it found too few stars"
    return (
        f"TweakReg aligned {exposures[worst].name} {found}: expected {visit.build.drizzle.max_fit_rms_pixels:g} or better "
        "(build.drizzle.max_fit_rms_pixels)"
    )
