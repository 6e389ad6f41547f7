"""The classical baseline: the curve of L.A.Cosmic (`deepcr_zoo.models.baselines.Lacosmic`).

It gives a mask and no score, so its curve is a sweep: one mask, and one point, per value of ``sigclip``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcr_zoo.bench.measures.roc import RocPoint, Tally, as_flags
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.baselines import Lacosmic

SIGCLIPS = (2.5, 3.2, 4.0, 5.0, 6.3, 8.0, 10.0, 12.5, 16.0, 20.0, 25.0, 32.0)
"""Ten per decade; on ACS/WFC they give FPRs from a few per cent down to 1e-4."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Counts of one mask per value of ``sigclip``, on the same pixels.

    Attributes
    ----------
    sigclips : tuple of float
        Ascending.
    true_positives, false_positives : ndarray of int64
        Cosmic-ray and clean pixels that are masked at each of them.
    cosmic_rays, clean, ignored : int
        Pixels of each kind; ignored ones are in no count.
    """

    sigclips: tuple[float, ...]
    true_positives: Tally
    false_positives: Tally
    cosmic_rays: int
    clean: int
    ignored: int

    def points(self) -> list[RocPoint]:
        """A point per ``sigclip``, in the order of FPR; none if the pixels of a class are missing."""
        if self.cosmic_rays == 0 or self.clean == 0:
            return []
        fprs, tprs = self.false_positives / self.clean, self.true_positives / self.cosmic_rays
        points = [RocPoint(*map(float, rates)) for rates in zip(self.sigclips, fprs, tprs, strict=True)]
        return sorted(points, key=lambda point: (point.fpr, point.tpr))

    def at_fpr(self, fpr: float) -> RocPoint | None:
        """TPR and ``sigclip`` at an FPR between two points of the sweep, by `interpolate`; None outside of it."""
        if self.cosmic_rays == 0 or self.clean == 0:
            return None
        return interpolate(self.sigclips, self.false_positives / self.clean, self.true_positives / self.cosmic_rays, fpr)

    def area(self) -> None:
        """None: a sweep does not reach from an FPR of 0 to one of 1."""
        return


def interpolate(sigclips: ArrayLike, fprs: NDArray[np.float64], tprs: NDArray[np.float64], fpr: float) -> RocPoint | None:
    """The point of a sweep at an FPR between two of its own.

    Linear in log FPR, in which the curve is nearly straight. A point with a lower TPR than one of lower FPR has that one's
    TPR: nobody would choose it. None, never an extrapolation, where `fpr` is outside of the sweep.

    Parameters
    ----------
    sigclips : array_like, shape (T,)
    fprs, tprs : ndarray of float64, shape (T,)
        At each of them; NaN where the pixels of a class are missing.
    fpr : float
    """
    order = np.lexsort((tprs, fprs))
    order = order[(fprs[order] > 0) & np.isfinite(tprs[order])]
    swept = fprs[order]
    if not swept.size or not swept[0] <= fpr <= swept[-1]:
        return None
    at, places = np.log(fpr), np.log(swept)
    sigclip = np.interp(at, places, np.asarray(sigclips)[order])
    tpr = np.interp(at, places, np.maximum.accumulate(tprs[order]))
    return RocPoint(float(sigclip), fpr, float(tpr))


def sweep(
    method: Lacosmic,
    image: Any,
    cosmic_rays: ArrayLike,
    ignore: ArrayLike | None = None,
    sigclips: Sequence[float] = SIGCLIPS,
) -> Sweep:
    """Judge the masks of all `sigclips` on the pixels of a chip or of stamps.

    Parameters
    ----------
    method : Lacosmic
    image : array_like, shape (H, W) or (N, H, W)
        As for `Lacosmic.mask`.
    cosmic_rays, ignore : array_like of bool, or of 0 and 1
        CR mask and ignore mask, of the image's shape.
    sigclips : sequence of float

    Raises
    ------
    InvalidImageError
        If the image or a mask cannot be used.
    MissingExtraError
        If astroscrappy is not installed.
    """
    shape = np.shape(image)
    labels = as_flags(cosmic_rays, shape, "CR mask")
    counted = np.ones(shape, bool) if ignore is None else ~as_flags(ignore, shape, "ignore mask")
    ascending = tuple(sorted(sigclips))
    true, false = [], []
    for sigclip in ascending:
        mask = method.mask(image, sigclip) & counted
        true.append(np.count_nonzero(mask & labels))
        false.append(np.count_nonzero(mask & ~labels))
    return Sweep(
        ascending,
        np.array(true, dtype=np.int64),
        np.array(false, dtype=np.int64),
        cosmic_rays=int(np.count_nonzero(labels & counted)),
        clean=int(np.count_nonzero(~labels & counted)),
        ignored=int(np.count_nonzero(~counted)),
    )


def merge(parts: Iterable[Sweep]) -> Sweep:
    """The sweeps of several images together.

    Raises
    ------
    UsageError
        If there is none, or not all have the same values of ``sigclip``.
    """
    sweeps = list(parts)
    if len({part.sigclips for part in sweeps}) != 1:
        raise UsageError("sweeps can be merged that have the same values of sigclip: expected at least one, and all alike")
    return Sweep(
        sweeps[0].sigclips,
        np.sum([part.true_positives for part in sweeps], axis=0),
        np.sum([part.false_positives for part in sweeps], axis=0),
        sum(part.cosmic_rays for part in sweeps),
        sum(part.clean for part in sweeps),
        sum(part.ignored for part in sweeps),
    )
