"""Which exposures of a visit have an odd background, before any is labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import ignore, quality
from deepcr_zoo.dataset.exposures import ExposureFacts, read_chips
from deepcr_zoo.dataset.labelmethods import WAYS
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.store import Rejected
from deepcr_zoo.simulate.truth import truth_path


@dataclass(frozen=True)
class Candidate:
    """An exposure that has not been rejected so far.

    Attributes
    ----------
    facts : ExposureFacts
    truth : Path or None
        What was simulated.
    sky_electron : float
        Its sky level (`quality.measure`), e-.
    background_ratio : float or None
        Of its background per second to what is usual; None where that is zero.
    """

    facts: ExposureFacts
    truth: Path | None
    sky_electron: float
    background_ratio: float | None


@dataclass(frozen=True)
class _Levels:
    """Sky level and background of an exposure, e-, and the latter per second."""

    sky_electron: float
    background_electron: float
    exposure_time_s: float

    @property
    def rate(self) -> float:
        return self.background_electron / self.exposure_time_s


def _plain_median(images: Sequence[NDArray[np.float32]], ignored: Sequence[NDArray[np.bool_]]) -> float:
    """Repeats have the same scene on the same pixels: all of it is compared, sources too."""
    pixels = np.concatenate([image[~left_out] for image, left_out in zip(images, ignored, strict=True)])
    return float(np.median(pixels)) if pixels.size else math.nan


def without_odd_backgrounds(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts]
) -> tuple[list[Candidate], list[Rejected]]:
    """The exposures whose background is that of their visit, and the others.

    Raises
    ------
    InvalidFileError
        If a file has changed or gone since the visit was planned.
    """
    measured = [_levels(visit, exposure) for exposure in exposures]
    same_target = [sibling for sibling in visit.siblings if sibling.target == exposures[0].target]
    others = [one.rate for sibling in same_target if math.isfinite((one := _levels(visit, sibling)).rate)]
    left = [index for index, levels in enumerate(measured) if math.isfinite(levels.rate)]
    rejected = [
        Rejected(what=exposure.name, reason="all of its pixels are to be ignored")
        for exposure, levels in zip(exposures, measured, strict=True)
        if not math.isfinite(levels.rate)
    ]
    while len(left) >= visit.build.quality.min_exposures:
        odd = _odd_background(visit, [measured[index] for index in left], others)
        if odd is None:
            break
        rejected.append(Rejected(what=exposures[left[odd[0]]].name, reason=odd[1]))
        del left[odd[0]]
    ratios = quality.ratios([measured[index].rate for index in left], others) if left else []
    return [
        Candidate(
            exposures[index],
            truth_path(exposures[index].path) if visit.simulated else None,
            measured[index].sky_electron,
            ratio if math.isfinite(ratio) else None,
        )
        for index, ratio in zip(left, ratios, strict=True)
    ], rejected


def _odd_background(visit: PlannedVisit, found: Sequence[_Levels], others: Sequence[float]) -> tuple[int, str] | None:
    """The exposure whose background is farthest out of line, and why it has to go; None if there is none."""
    rates = [one.rate for one in found]
    limit, ratios = visit.build.quality.max_background_ratio, quality.ratios(rates, others)
    # what is off by less than the read noise is not off: near zero a ratio means nothing
    off = [
        abs(one.rate - usual) * one.exposure_time_s for one, usual in zip(found, quality.usual(rates, others), strict=True)
    ]
    within = visit.instrument.read_noise_electron
    index = quality.worst([1.0 if one < within else ratio for one, ratio in zip(off, ratios, strict=True)], limit)
    if index is None:
        return None
    reason = f"its background of {rates[index]:.3g} e-/s is {ratios[index]:.2g} times what is usual in its visit"
    return index, f"{reason} (build.quality.max_background_ratio is {limit:g})"


def _levels(visit: PlannedVisit, exposure: ExposureFacts) -> _Levels:
    chips = read_chips(exposure, visit.instrument)
    images = [chip.image for chip in chips]
    ignored = [ignore.ignore_mask(chip.image, chip.quality, visit.kept_bits, visit.build.ignore) for chip in chips]
    level = quality.measure(images, ignored)
    background = _plain_median(images, ignored) if WAYS[visit.build.labels].same_pixels else level
    return _Levels(level, background, exposure.exposure_time_s)
