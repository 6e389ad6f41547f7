"""The curve of L.A.Cosmic (`deepcr_zoo.models.baselines.Lacosmic`).

It gives a mask and no score, so its curve is a sweep: one mask, and one point, per value of ``sigclip``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.roc import RocPoint
from deepcr_zoo.bench.measures.tally import Tally

Rates = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sweep:
    """A tally of clean and cosmic-ray pixels, in this order, whose thresholds are values of ``sigclip``."""

    classes: Tally

    @property
    def clean(self) -> int:
        return int(self.classes.pixels[0])

    @property
    def cosmic_rays(self) -> int:
        return int(self.classes.pixels[1])

    def points(self) -> list[RocPoint]:
        """Return a point per ``sigclip``, in the order of FPR; none without pixels of both classes."""
        if self.cosmic_rays == 0 or self.clean == 0:
            return []
        points = [RocPoint(*map(float, rates)) for rates in zip(self.classes.thresholds, *self._rates(), strict=True)]
        return sorted(points, key=lambda point: (point.fpr, point.tpr))

    def at_fpr(self, fpr: float) -> RocPoint | None:
        """Return the interpolated point at an FPR; None outside of the sweep, or without pixels of both classes."""
        if self.cosmic_rays == 0 or self.clean == 0:
            return None
        return interpolate(self.classes.thresholds, *self._rates(), fpr)

    def at_tpr(self, tpr: float) -> RocPoint | None:
        """Return the interpolated point at a TPR; None outside of the sweep, or without pixels of both classes."""
        if self.cosmic_rays == 0 or self.clean == 0:
            return None
        sigclips, fprs, tprs = _in_order(self.classes.thresholds, *self._rates())
        if not tprs.size or not tprs[0] <= tpr <= tprs[-1]:
            return None
        return RocPoint(float(np.interp(tpr, tprs, sigclips)), float(np.exp(np.interp(tpr, tprs, np.log(fprs)))), tpr)

    def area(self) -> None:
        """Return None: a sweep does not reach from an FPR of 0 to one of 1."""
        return

    def _rates(self) -> tuple[Rates, Rates]:
        return self.classes.masked[0] / self.clean, self.classes.masked[1] / self.cosmic_rays


def interpolate(sigclips: Rates, fprs: Rates, tprs: Rates, fpr: float) -> RocPoint | None:
    """Return the point of a sweep at an FPR between two of its own; None, never an extrapolation, outside of it.

    It is linear in log FPR, in which the curve is nearly straight. A point with a lower TPR than one of lower FPR gets the
    TPR of that one, which users would choose instead. TPRs are NaN where the pixels of a class are missing.
    """
    sigclips, fprs, tprs = _in_order(sigclips, fprs, tprs)
    if not fprs.size or not fprs[0] <= fpr <= fprs[-1]:
        return None
    at, places = np.log(fpr), np.log(fprs)
    return RocPoint(float(np.interp(at, places, sigclips)), fpr, float(np.interp(at, places, tprs)))


def _in_order(sigclips: Rates, fprs: Rates, tprs: Rates) -> tuple[Rates, Rates, Rates]:
    """Return the points of a sweep that can be interpolated, in the order of FPR, each with the highest TPR so far."""
    order = np.lexsort((tprs, fprs))
    order = order[(fprs[order] > 0) & np.isfinite(tprs[order])]
    return sigclips[order], fprs[order], np.maximum.accumulate(tprs[order])
