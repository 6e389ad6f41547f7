"""From counts of masked pixels to the figures of networks and of L.A.Cosmic in ``results.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.special import expit, logit

from deepcr_zoo.bench.measures import stars, tracks
from deepcr_zoo.bench.measures.bootstrap import Values, strictest_tprs, tprs_at
from deepcr_zoo.bench.measures.detections import Detections
from deepcr_zoo.bench.measures.lacosmic import Sweep
from deepcr_zoo.bench.measures.roc import RocCurve, RocPoint
from deepcr_zoo.bench.measures.structures import Structures
from deepcr_zoo.bench.measures.tally import BIN_WIDTH, Tally
from deepcr_zoo.bench.results import (
    CurvePoint,
    Diagnostics,
    DilatedRates,
    FieldResult,
    GroupRate,
    PrecisionAtTpr,
    RateAtFpr,
    RegionRates,
    ReliabilityBin,
    StructuredPixels,
)

TPR_AT_FPR = "largest TPR of the thresholds whose FPR is not above it"
CURVE_POINTS = "the thresholds of that rule at 50 FPRs per decade"
"""How `RocCurve` defines its figures, for `results.MethodResult`."""

SWEEP_TPR = "interpolated linearly in log FPR between values of sigclip"
"""How `Sweep` defines its TPR, for `results.MethodResult`."""

PROBABILITIES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Between bins of the reliability curve; each is moved to the nearest edge of the logit's fine bins."""

Thresholds = Sequence[float | None]


PRECISION_AT = (0.95,)
"""TPRs at which precision is given, as by Cosmic-CoNN (Xu et al. 2023, ApJ 942, 73)."""


def field_result(roc: RocCurve | Sweep, fprs: Iterable[float]) -> FieldResult:
    """Return the TPRs at `fprs`, the precision at fixed TPRs, the area and the curve."""
    return FieldResult(
        at_fpr=[_rate(fpr, roc.at_fpr(fpr)) for fpr in fprs],
        at_tpr=[_precision(tpr, roc) for tpr in PRECISION_AT],
        area=roc.area(),
        curve=[_curve_point(point, roc) for point in roc.points()],
    )


def network_field(found: Detections, fprs: Sequence[float], threshold: float) -> FieldResult:
    """Return the figures of a network whose default threshold is the probability `threshold`."""
    assert found.exact is not None  # counted by detections.network
    curve = found.exact.curve()
    points = [curve.at_fpr(fpr) for fpr in fprs]
    at_points: Thresholds = [point.threshold if point else None for point in points]
    dilated = DilatedRates(
        paper=[
            _rate(fpr, point and RocPoint(point.threshold, point.fpr, found.dilated.rates(point.threshold)[1] or 0.0))
            for fpr, point in zip(fprs, points, strict=True)
        ],
        honest=[_rate(fpr, _edge_at(found.dilated, fpr)) for fpr in fprs],
    )
    diagnostics = _diagnostics(found, [_logit(threshold), *at_points], calibration(found.classes))
    figures = {
        "average_precision": curve.average_precision(),
        "dilated": dilated,
        "diagnostics": diagnostics,
        "structures": None if found.structures is None else structured_pixels(found.structures),
    }
    return field_result(curve, fprs).model_copy(update=figures)


def structured_pixels(found: Structures) -> StructuredPixels:
    """Return counts of structures for ``results.json``."""
    return StructuredPixels(
        masked=found.masked, in_lines=found.in_lines, in_trails=found.in_trails, persistent=found.persistent
    )


def sweep_field(found: Detections, fprs: Sequence[float]) -> FieldResult:
    """Return the figures of L.A.Cosmic with one objlim."""
    sweep, dilated = Sweep(found.classes), Sweep(found.dilated)
    masked = np.stack([found.classes.masked[0], found.dilated.masked[1]])
    flattered = Sweep(replace(found.classes, masked=masked))
    rates = DilatedRates(
        paper=[_rate(fpr, flattered.at_fpr(fpr)) for fpr in fprs], honest=[_rate(fpr, dilated.at_fpr(fpr)) for fpr in fprs]
    )
    points = [sweep.at_fpr(fpr) for fpr in fprs]
    diagnostics = _diagnostics(found, [None, *(point.threshold if point else None for point in points)])
    return field_result(sweep, fprs).model_copy(update={"dilated": rates, "diagnostics": diagnostics})


def best_sweep_field(by_objlim: Mapping[float, Detections], fprs: Sequence[float]) -> tuple[FieldResult, list[float | None]]:
    """Return the figures of the best objlim at each FPR, and these objlims.

    The curve holds the points of all objlims that no point of lower FPR beats. Figures that are no rate at an FPR are those
    of the best objlim at the FPR in the middle.
    """
    fields = {objlim: sweep_field(found, fprs) for objlim, found in by_objlim.items()}
    best: list[float | None] = []
    for index in range(len(fprs)):
        reached = {objlim: tpr for objlim, one in fields.items() if (tpr := one.at_fpr[index].tpr) is not None}
        best.append(max(reached, key=reached.__getitem__) if reached else None)
    middle = best[len(best) // 2]
    shown = fields[next(iter(fields)) if middle is None else middle]
    points = sorted((point for one in fields.values() for point in one.curve), key=lambda point: (point.fpr, -point.tpr))
    highest = np.maximum.accumulate([0.0, *(point.tpr for point in points)])
    at_fpr = [(shown if objlim is None else fields[objlim]).at_fpr[index] for index, objlim in enumerate(best)]
    at_tpr = [
        max((one.at_tpr[index] for one in fields.values()), key=lambda found: found.precision or 0.0)
        for index in range(len(PRECISION_AT))
    ]
    curve = [point for point, before in zip(points, highest[:-1], strict=True) if point.tpr > before]
    return shown.model_copy(update={"at_fpr": at_fpr, "at_tpr": at_tpr, "curve": curve}), best


def resampled_network(found: Detections, weights: Values, fprs: Sequence[float]) -> Values:
    """Return a network's TPRs at each FPR of resampled blocks of sky, shape (F, R).

    They come from fine bins of the logit, and are shifted by what these miss of the exact TPR of all blocks.
    """
    assert found.exact is not None  # counted by detections.network
    curve, once = found.exact.curve(), np.ones((1, weights.shape[1]))

    def resampled(fpr: float) -> Values:
        point = curve.at_fpr(fpr)
        fine, binned = (tprs_at(found.blocks, one, fpr, interpolated=False) for one in (weights, once))
        return fine + ((np.nan if point is None else point.tpr) - binned)

    return np.stack([resampled(fpr) for fpr in fprs])


def resampled_sweep(found: Sequence[Detections], weights: Values, fprs: Sequence[float]) -> Values:
    """Return the TPRs of the best sweep in each resampling, shape (F, R).

    Where none reaches the FPR, it is the TPR of the strictest settings: with fewer false pixels they find no more.
    """
    each = np.stack([[tprs_at(one.blocks, weights, fpr, interpolated=True) for fpr in fprs] for one in found])
    best = np.where(np.isfinite(each), each, -1).max(axis=0)
    strictest: Values = np.stack([strictest_tprs(one.blocks, weights) for one in found]).max(axis=0)
    return np.where(best < 0, strictest, best)


def calibration(classes: Tally) -> list[ReliabilityBin]:
    """Compare predicted probabilities, taken at the middle of fine bins of the logit, with the share of cosmic rays."""
    edges = classes.thresholds
    inside = -np.diff(classes.masked, axis=1, prepend=classes.pixels[:, None], append=0)  # below, between and above edges
    middles = np.concatenate([edges - BIN_WIDTH / 2, edges[-1:] + BIN_WIDTH / 2])
    cuts = np.searchsorted(edges, logit(PROBABILITIES)) + 1  # the bins up to here lie below
    limits = [0.0, *(float(expit(edges[cut - 1])) for cut in cuts), 1.0]
    bins = []
    for low, high, first, last in zip(limits[:-1], limits[1:], [0, *cuts], [*cuts, inside.shape[1]], strict=True):
        each = inside[:, first:last].sum(axis=0)
        pixels = int(each.sum())
        predicted = float(np.sum(each * expit(middles[first:last])) / pixels) if pixels else None
        observed = int(inside[1, first:last].sum()) / pixels if pixels else None
        bins.append(ReliabilityBin(low=low, high=high, pixels=pixels, predicted=predicted, observed=observed))
    return bins


def _diagnostics(found: Detections, thresholds: Thresholds, reliability: Sequence[ReliabilityBin] = ()) -> Diagnostics:
    def grouped(tally: Tally, bounds: Sequence[float | None]) -> list[GroupRate]:
        groups = zip(pairwise(bounds), tally.pixels, _rates(tally, thresholds), strict=True)
        return [GroupRate(low=low, high=high, pixels=int(pixels), rates=rates) for (low, high), pixels, rates in groups]

    return Diagnostics(
        star_cores=grouped(found.stars, [None, *stars.PEAK_EDGES, None]),
        cosmic_ray_brightness=grouped(found.brightness, [None, *tracks.BRIGHTNESS_EDGES, None]),
        cosmic_ray_size=grouped(found.sizes, [*tracks.SIZE_EDGES, None]),
        whole_cosmic_rays=grouped(found.whole, [*tracks.SIZE_EDGES, None]),
        regions=_regions(found.regions, thresholds),
        calibration=list(reliability),
    )


def _regions(tally: Tally, thresholds: Thresholds) -> list[RegionRates]:
    rates, pixels = _rates(tally, thresholds), [int(one) for one in tally.pixels]
    return [
        RegionRates(region=region, clean=clean, cosmic_rays=cosmic_rays, fprs=fprs, tprs=tprs)
        for region, clean, cosmic_rays, fprs, tprs in zip(
            tracks.REGIONS, pixels[::2], pixels[1::2], rates[::2], rates[1::2], strict=True
        )
    ]


def _rates(tally: Tally, thresholds: Thresholds) -> list[list[float | None]]:
    return [list(rates) for rates in zip(*(tally.rates(threshold) for threshold in thresholds), strict=True)]


def _edge_at(classes: Tally, fpr: float) -> RocPoint | None:
    """Return the lowest edge whose FPR is not above `fpr`."""
    clean, cosmic_rays = map(int, classes.pixels)
    allowed = np.flatnonzero(classes.masked[0] / clean <= fpr) if clean and cosmic_rays else np.zeros(0, np.intp)
    if not allowed.size:
        return None
    edge = allowed[0]
    return RocPoint(float(classes.thresholds[edge]), classes.masked[0, edge] / clean, classes.masked[1, edge] / cosmic_rays)


def _rate(fpr: float, point: RocPoint | None) -> RateAtFpr:
    if point is None:
        return RateAtFpr(fpr=fpr, reached_fpr=None, tpr=None, threshold=None)
    return RateAtFpr(fpr=fpr, reached_fpr=point.fpr, tpr=point.tpr, threshold=point.threshold)


def _precision(tpr: float, roc: RocCurve | Sweep) -> PrecisionAtTpr:
    point = roc.at_tpr(tpr)
    if point is None:
        return PrecisionAtTpr(tpr=tpr, precision=None, fpr=None, threshold=None)
    found = _curve_point(point, roc)
    return PrecisionAtTpr(tpr=tpr, precision=found.precision, fpr=found.fpr, threshold=found.threshold)


def _curve_point(point: RocPoint, roc: RocCurve | Sweep) -> CurvePoint:
    true, false = point.tpr * roc.cosmic_rays, point.fpr * roc.clean
    precision = true / (true + false) if true + false > 0 else None
    return CurvePoint(threshold=point.threshold, fpr=point.fpr, tpr=point.tpr, precision=precision)


def _logit(probability: float) -> float | None:
    """Return None for 0 and 1, which have no finite logit."""
    return math.log(probability / (1 - probability)) if 0 < probability < 1 else None
