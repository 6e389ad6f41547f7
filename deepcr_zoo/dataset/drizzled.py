"""Label method AstroDrizzle: the median of a dithered visit, blotted back to each of its exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import drizzle, footprints, ignore
from deepcr_zoo.dataset.coverage import GoodPixels, seen_by_others
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, VisitRejectedError, check_room, largest_dither
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.errors import DrizzleError, InterruptedWorkError
from deepcr_zoo.exposures.usablepixels import has_bits
from deepcr_zoo.zoo.recipe import IgnoreBlock
from deepcr_zoo.zoo.recipeinstruments import detector_of

MOST_GRID = 30_000
"""Side in pixels; a layer of such a grid takes 3.6 GB."""


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> DrizzledLabelling:
    """Label exposures with AstroDrizzle; its files must stay in `scratch` as long as the labels are used."""
    check_room((shape for one in exposures for shape in one.shapes), visit.build.stamps)
    _check_grid(visit, exposures)
    good_bits = _good_bits(visit)
    files = [(one.path, one.sha256) for one in exposures]
    try:
        drizzled = drizzle.drizzle_visit(files, scratch, visit.build.drizzle, good_bits, visit.tweakreg, log)
    except DrizzleError as error:
        # relative to the data folder: the same bytes wherever it is
        message = str(error).replace(str(log), f"{log.parent.name}/{log.name}")
        raise VisitRejectedError(f"{message} (to try again, remove visits/{log.stem} from the data folder)") from None
    except InterruptedWorkError as error:
        raise InterruptedWorkError(f"{visit.name}: {error}") from None
    if drizzled.fit_rms_pixels and max(drizzled.fit_rms_pixels) > visit.build.drizzle.max_fit_rms_pixels:
        raise VisitRejectedError(_badly_aligned(visit, drizzled.fit_rms_pixels, exposures))
    return DrizzledLabelling(visit, exposures, drizzled, good_bits)


def _check_grid(visit: PlannedVisit, exposures: Sequence[ExposureFacts]) -> None:
    """Reject a visit for which AstroDrizzle would ask for more memory than machines have."""
    edges = np.concatenate([outline for one in exposures for outline in one.outlines])
    across = max(float(footprints.distance_arcsec(edge[None], edges).max()) for edge in edges)
    side = across / visit.instrument.pixel_scale_arcsec
    if side > MOST_GRID:
        raise VisitRejectedError(
            f"its exposures cover {across:.3g} arcsec, {side:.3g} pixels: expected {MOST_GRID:,} at most, for AstroDrizzle"
        )


class DrizzledLabelling:
    """The labels of a drizzled visit, as `labelling.LabellingInMemory` has them, but with its pixels on the disk."""

    compares_exposures = True

    def __init__(
        self, visit: PlannedVisit, exposures: Sequence[ExposureFacts], drizzled: drizzle.DrizzledVisit, good_bits: int
    ) -> None:
        self._visit, self._exposures, self._drizzled = visit, exposures, drizzled
        self.good = [
            [GoodPixels(~has_bits(chip.quality, ~good_bits), chip.wcs) for chip in self._chips(index)]
            for index in range(len(exposures))
        ]
        self.software = drizzled.software
        self.largest_dither_arcsec = largest_dither([(chips[0].good.shape, chips[0].wcs) for chips in self.good])

    def labelled(self, index: int) -> LabelledExposure:
        """Return an exposure with its labels; pixels that no other exposure has seen are ignored."""
        visit, chips = self._visit, self._chips(index)
        others = [chip for other, good in enumerate(self.good) if other != index for chip in good]
        labels = [self._drizzled.label(index, chip.version) for chip in chips]
        block = visit.build.ignore
        ignored = [
            ~seen_by_others(own, others) | ignore.ignore_mask(chip, visit.quality_bits, block)
            for chip, own in zip(chips, self.good[index], strict=True)
        ]
        return LabelledExposure(chips, [mask for mask, _ in labels], ignored, [blotted for _, blotted in labels])

    def aligned(self, index: int) -> NDArray[np.float32]:
        """Return an exposure on the grid of the visit, zero where it has no data, shape (H, W)."""
        return self._drizzled.resampled(index)

    def fit_rms_pixels(self, index: int) -> float | None:
        """Return the RMS of TweakReg's fit, or None without TweakReg."""
        return None if self._drizzled.fit_rms_pixels is None else self._drizzled.fit_rms_pixels[index]

    def comparison(self, index: int) -> None:
        """Return None: AstroDrizzle keeps no record of it."""

    def _chips(self, index: int) -> list[ChipPixels]:
        return read_chips(self._exposures[index], self._visit.instrument, self._drizzled.exposure(index))


def _good_bits(visit: PlannedVisit) -> int:
    """Return the DQ bits that AstroDrizzle must not treat as bad pixels: saturation and cosmic rays."""
    detector = detector_of(visit.instrument)
    known = detector.saturation is not None and detector.cosmic_ray_bit is not None
    return ignore.quality_bits(IgnoreBlock() if known else visit.build.ignore, detector).kept


def _badly_aligned(visit: PlannedVisit, rms: Sequence[float], exposures: Sequence[ExposureFacts]) -> str:
    worst = int(np.argmax(rms))
    found = f"with an RMS of {rms[worst]:.2f} pixels" if math.isfinite(rms[worst]) else "not at all, it found too few stars"
    return (
        f"TweakReg aligned {exposures[worst].name} {found}: expected {visit.build.drizzle.max_fit_rms_pixels:g} or better "
        "(build.drizzle.max_fit_rms_pixels)"
    )
