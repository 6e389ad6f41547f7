"""Rejection of exposures with an odd background, before any exposure is labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import ignore, quality
from deepcr_zoo.dataset.exposures import ExposureFacts, read_chips
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.sky import measure_sky
from deepcr_zoo.dataset.store import Rejected
from deepcr_zoo.simulate.truth import truth_path


@dataclass(frozen=True)
class CandidateExposure:
    """An exposure that has not been rejected so far."""

    facts: ExposureFacts
    truth: Path | None  # of a simulated exposure
    sky_electron: float  # as measured, e-
    background_ratio: float | None  # background per second / that of the visit; None where the latter is zero


def without_odd_backgrounds(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts]
) -> tuple[list[CandidateExposure], list[Rejected]]:
    """Return the exposures with the background of their visit, and the others with reasons."""
    measured = [_measure_levels(visit, exposure) for exposure in exposures]
    rates = [rate for _, rate in measured]
    same_target = [sibling for sibling in visit.siblings if sibling.target == exposures[0].target]
    others = [rate for one in same_target if math.isfinite(rate := _measure_levels(visit, one)[1])]
    left = [index for index, rate in enumerate(rates) if math.isfinite(rate)]
    rejected = [
        Rejected(what=exposure.name, reason="all of its pixels are to be ignored")
        for exposure, rate in zip(exposures, rates, strict=True)
        if not math.isfinite(rate)
    ]
    while len(left) >= visit.build.quality.min_exposures:
        odd = _find_odd_background(visit, [exposures[index] for index in left], [rates[index] for index in left], others)
        if odd is None:
            break
        rejected.append(Rejected(what=exposures[left[odd.index]].name, reason=odd.reason))
        del left[odd.index]
    ratios = quality.ratios_to_typical([rates[index] for index in left], others) if left else []
    found = []
    for index, ratio in zip(left, ratios, strict=True):
        truth = truth_path(exposures[index].path) if visit.simulated else None
        found.append(CandidateExposure(exposures[index], truth, measured[index][0], ratio if math.isfinite(ratio) else None))
    return found, rejected


def _find_odd_background(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts], rates: Sequence[float], others: Sequence[float]
) -> quality.Outlier | None:
    limit, ratios = visit.build.quality.max_background_ratio, quality.ratios_to_typical(rates, others)
    typical, within = quality.typical_values(rates, others), visit.instrument.read_noise_electron
    # differences below the read noise do not count: near zero a ratio means nothing
    counted = [
        1.0 if abs(rate - usual) * one.exposure_time_s < within else ratio
        for one, rate, usual, ratio in zip(exposures, rates, typical, ratios, strict=True)
    ]
    index = quality.find_worst(counted, limit)
    if index is None:
        return None
    reason = f"its background of {rates[index]:.3g} e-/s is {ratios[index]:.2g} times what is usual in its visit"
    return quality.Outlier(index, f"{reason} (build.quality.max_background_ratio is {limit:g})")


def _measure_levels(visit: PlannedVisit, exposure: ExposureFacts) -> tuple[float, float]:
    """Return the sky level, e-, and the background, e-/s."""
    chips = read_chips(exposure, visit.instrument)
    images = [chip.image for chip in chips]
    ignored = [ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore) for chip in chips]
    sky = measure_sky(images, ignored)
    background = _plain_median(images, ignored) if LABEL_METHODS[visit.build.labels].same_pixels else sky
    return sky, background / exposure.exposure_time_s


def _plain_median(images: Sequence[NDArray[np.float32]], ignored: Sequence[NDArray[np.bool_]]) -> float:
    """Return the median of all pixels, sources included: repeats have the same scene on the same pixels."""
    pixels = np.concatenate([image[~left_out] for image, left_out in zip(images, ignored, strict=True)])
    return float(np.median(pixels)) if pixels.size else math.nan
