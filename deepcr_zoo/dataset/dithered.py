"""Label method dithers: exposures of one field of any camera, aligned by WCS and stars, label each other."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import dithers, ignore, persistent, quality, starmatching
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, VisitRejectedError, check_room, largest_dither
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.starmatching import Alignment
from deepcr_zoo.dataset.store import DitherRecord
from deepcr_zoo.models.images import has_value
from deepcr_zoo.zoo.recipe import DithersBlock

_SECONDS_PER_DAY = 86_400.0
_BLOCK = "build.dithers"
_SOFTWARE = ("drizzle", "tweakwcs", "photutils")


def label(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path
) -> LabellingInMemory | quality.Outlier:
    """Label exposures by each other, or return the one that does not fit. No scratch folder or log is used."""
    settings = visit.build.dithers
    if len(exposures) <= settings.min_others:
        raise VisitRejectedError(
            f"the visit has {len(exposures)} exposures, labels need {settings.min_others + 1} ({_BLOCK}.min_others)"
        )
    check_room((shape for one in exposures for shape in one.shapes), visit.build.stamps)
    chips = [read_chips(one, visit.instrument) for one in exposures]
    if len({len(own) for own in chips}) > 1:
        listed = ", ".join(f"{one.name} {len(own)}" for one, own in zip(exposures, chips, strict=True))
        raise VisitRejectedError(f"its exposures have different numbers of chips: {listed}")
    by_chip, aligned = [], []
    for number in range(len(chips[0])):
        own = [_dithered(visit, facts, of_one[number]) for facts, of_one in zip(exposures, chips, strict=True)]
        reference, alignments = starmatching.align(_without_columns(own), settings.search_pixels, settings.min_stars)
        if outlier := find_outlier(alignments, [one.exposure_time_s for one in exposures], settings):
            return outlier
        found = [one for one in alignments if one is not None]
        aligned.append(found)
        by_chip.append(dithers.label_dithers(own, found, reference, settings))
    labelled = [
        LabelledExposure(
            own, [one.cosmic_rays for one in labels], [one.ignore for one in labels], [one.expected for one in labels]
        )
        for own, labels in zip(chips, zip(*by_chip, strict=True), strict=True)
    ]
    seconds = [one.exposure_time_s for one in exposures]
    residuals = [_worst([one.residual_pixels for one in own]) for own in zip(*aligned, strict=True)]
    records = [_record(index, aligned, by_chip, seconds) for index in range(len(exposures))]
    software = f"deepcr-zoo {__version__}, " + ", ".join(f"{name} {version(name)}" for name in _SOFTWARE)
    return LabellingInMemory(
        labelled,
        True,
        software,
        largest_dither([(own[0].image.shape, own[0].wcs) for own in chips]),
        on_grid=[one.on_grid for one in by_chip[0]],
        comparisons=records,
        residuals_pixels=residuals,
    )


def find_outlier(
    alignments: Sequence[Alignment | None], seconds: Sequence[float], settings: DithersBlock
) -> quality.Outlier | None:
    """Return the exposure that cannot be aligned well, or whose seeing or transparency is out of line."""
    for index, one in enumerate(alignments):
        if one is None:
            reason = f"fewer than {settings.min_stars} of its stars match those of its visit ({_BLOCK}.min_stars)"
            return quality.Outlier(index, reason)
    found = [one for one in alignments if one is not None]
    residuals = [one.residual_pixels or 0.0 for one in found]
    worst = int(np.argmax(residuals))
    if residuals[worst] > settings.max_residual_pixels:
        reason = f"its stars match those of its visit to {residuals[worst]:.2f} pixels only"
        limit = f"({_BLOCK}.max_residual_pixels is {settings.max_residual_pixels:g})"
        return quality.Outlier(worst, f"{reason} {limit}")
    seen = [index for index, one in enumerate(found) if one.fwhm_pixels is not None]
    widths = [found[index].fwhm_pixels or 0.0 for index in seen]
    ratios = quality.ratios_to_typical(widths) if len(seen) > 1 else []
    if ratios and (place := quality.find_worst(ratios, settings.max_seeing_ratio)) is not None:
        reason = f"its seeing of {widths[place]:.2f} pixels (FWHM) is {ratios[place]:.2g} times what is usual in its visit"
        return quality.Outlier(seen[place], f"{reason} ({_BLOCK}.max_seeing_ratio is {settings.max_seeing_ratio:g})")
    clear = transparencies(found, seconds)
    index = int(np.argmin([1.0 if one is None else one for one in clear]))
    value = clear[index]
    if value is not None and value < settings.min_transparency:
        reason = f"its stars have {value:.2g} times the flux per second that is usual in its visit"
        return quality.Outlier(index, f"{reason} ({_BLOCK}.min_transparency is {settings.min_transparency:g})")
    return None


def transparencies(alignments: Sequence[Alignment], seconds: Sequence[float]) -> list[float | None]:
    """Return the flux of the stars per second of each exposure, relative to the median; None where no stars matched."""
    rates = [
        None if one.flux_ratio is None else one.flux_ratio / time for one, time in zip(alignments, seconds, strict=True)
    ]
    known = [rate for rate in rates if rate is not None]
    return [None if rate is None else rate / float(np.median(known)) for rate in rates]


def _dithered(visit: PlannedVisit, facts: ExposureFacts, chip: ChipPixels) -> dithers.DitheredExposure:
    ignored = ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore)
    start = facts.start_mjd * _SECONDS_PER_DAY
    return dithers.DitheredExposure(
        np.where(has_value(chip.image), chip.image, np.float32(0)),
        ~ignored,
        facts.exposure_time_s,
        facts.read_noise_or(visit.instrument.read_noise_electron),
        chip.wcs if facts.has_coordinates else None,
        start + facts.exposure_time_s / 2 if start else None,
    )


def _without_columns(exposures: Sequence[dithers.DitheredExposure]) -> list[starmatching.Frame]:
    """Return the exposures for alignment; a bad column is at the same place in all of them, and must not be matched."""
    shapes = {one.image.shape for one in exposures}
    bad = np.zeros(exposures[0].image.shape, bool)
    if len(shapes) == 1:
        seen = (persistent.Observed(one.image, None, one.usable, one.read_noise_electron) for one in exposures)
        bad = persistent.find_defects(seen).mask
    return [
        starmatching.Frame(one.image, one.usable & ~bad if len(shapes) == 1 else one.usable, one.wcs) for one in exposures
    ]


def _record(
    index: int,
    aligned: Sequence[Sequence[Alignment]],
    by_chip: Sequence[Sequence[dithers.DitherLabel]],
    seconds: Sequence[float],
) -> DitherRecord:
    own, labels = [of_chip[index] for of_chip in aligned], [of_chip[index] for of_chip in by_chip]
    widths = [one.fwhm_pixels for one in own if one.fwhm_pixels is not None]
    clear = [one for of_chip in aligned if (one := transparencies(of_chip, seconds)[index]) is not None]
    return DitherRecord(
        matched_stars=min(one.stars for one in own),
        fwhm_pixels=float(np.mean(widths)) if widths else None,
        transparency=float(np.mean(clear)) if clear else None,
        unseen_pixels=sum(int(one.unseen.sum()) for one in labels),
        core_pixels=sum(int(one.cores.sum()) for one in labels),
        moving_pixels=sum(int(one.moving.sum()) for one in labels),
    )


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
