"""Trails of satellites and objects that move, among what only one exposure has: neither is a cosmic ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from deepcr_zoo.models.images import TOUCHING, Image, Mask

_GAP = 5  # pixels, side of the square that joins the pieces of a trail
_LEAST_LENGTH, _LENGTH_SHARE = 100.0, 0.3  # of a trail: in pixels, and of the frame's shorter side
_THIN = 8.0  # length / width
_MARGIN = 3.0  # pixels beside a trail that are ignored, in addition to its width

_LEAST_PIXELS = 4  # of an object that moves
_SPREAD = (0.45, 1.6)  # its flux / peak, in units of that of a Gaussian star
_ROUND = 1.7  # largest ratio of its axes
_FLUX_FACTOR = 1.8  # by which its flux may change
_REACH, _STILL = 80.0, 1.5  # pixels from one exposure to the next, at most and at least
_OFF_PATH = 1.2  # pixels beside the place that two exposures predict for a third
_SPAN = 3  # a path is looked for among exposures that are at most so many apart
_GROWTH = 3  # pixels around what moves that are ignored as well


def find_moving(
    struck: Sequence[Mask],
    excesses: Sequence[Image],
    maps: Sequence[NDArray[np.float64]],
    times_s: Sequence[float | None],
    fwhms: Sequence[float | None],
) -> list[Mask]:
    """Return the pixels (H, W) of each exposure that a trail or a moving object covers.

    `struck` is what exceeds the other exposures, by `excesses` (e-); `maps` hold the place of each pixel on a common grid.
    """
    trails = [find_trails(mask) for mask in struck]
    stays = {shape: _stays(shape, trails) for shape in {trail.shape for trail in trails}}
    trails = [trail & ~stays[trail.shape] for trail in trails]
    rest = [mask & ~trail for mask, trail in zip(struck, trails, strict=True)]
    found = [_star_like(*one) for one in zip(rest, excesses, maps, fwhms, strict=True)]
    clock = [float(index) if time is None else time for index, time in enumerate(times_s)]
    if any(time is None for time in times_s) or len(set(clock)) < len(clock):
        clock = [float(index) for index in range(len(times_s))]
    moving = _on_paths(found, clock)
    return [
        trail | _grown(np.isin(one.labels, one.numbers[sorted(chosen)]))
        for trail, one, chosen in zip(trails, found, moving, strict=True)
    ]


def _stays(shape: tuple[int, ...], trails: Sequence[Mask]) -> Mask:
    """Return what is a trail in most exposures of this shape: a bad column, which moves with the detector."""
    alike = [trail for trail in trails if trail.shape == shape]
    return np.asarray((2 * np.sum(alike, axis=0) > len(alike)) & (len(alike) > 1))


def find_trails(mask: Mask) -> Mask:
    """Return the pixels on long straight thin groups of a mask (H, W), and on their continuation across the frame."""
    joined, _ = ndimage.label(ndimage.binary_dilation(mask, np.ones((_GAP, _GAP))), TOUCHING)
    least = max(_LEAST_LENGTH, _LENGTH_SHARE * min(mask.shape))
    covered = np.zeros(mask.shape, bool)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    for number, place in enumerate(ndimage.find_objects(joined), 1):
        if np.hypot(*(part.stop - part.start for part in place)) < least:
            continue
        y, x = np.nonzero(mask[place] & (joined[place] == number))
        y, x = y + place[0].start, x + place[1].start
        centre = np.array([x.mean(), y.mean()])
        variances, axes = np.linalg.eigh(np.cov(x, y))
        width, length = np.sqrt(12 * np.maximum(variances, 0) + 1)  # of a bar with these variances
        if length < least or length < _THIN * width:
            continue
        across = np.abs((columns - centre[0]) * axes[0, 0] + (rows - centre[1]) * axes[1, 0])
        covered |= across <= width / 2 + _MARGIN
    return covered


@dataclass(frozen=True, eq=False)
class _StarLike:
    """Groups of pixels of an exposure that have the shape of a star."""

    labels: NDArray[np.int32]  # shape (H, W)
    numbers: NDArray[np.intp]  # of the groups, in `labels`
    places: NDArray[np.float64]  # on the common grid, shape (N, 2)
    fluxes: NDArray[np.float64]  # e-


def _star_like(mask: Mask, excess: Image, where: NDArray[np.float64], fwhm: float | None) -> _StarLike:
    labels, number = ndimage.label(mask, TOUCHING)
    rows, columns = np.nonzero(mask)
    group = labels[rows, columns] - 1
    light = np.maximum(excess[rows, columns], 0).astype(float)
    flux = np.bincount(group, light, number)
    safe = np.maximum(flux, 1e-9)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(group, light * values, number) / safe)

    y, x = mean(rows.astype(float)), mean(columns.astype(float))
    dy, dx = rows - y[group], columns - x[group]
    yy, xx, xy = mean(dy * dy), mean(dx * dx), mean(dx * dy)
    half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    axes = np.sqrt((half + root + 1 / 12) / (half - root + 1 / 12))
    peak = np.maximum(ndimage.maximum(excess, labels, np.arange(1, number + 1)), 1e-9) if number else np.ones(0)
    star = np.pi / (4 * np.log(2)) * (fwhm or np.inf) ** 2  # flux / peak of a Gaussian
    spread = flux / peak / star
    chosen = (np.bincount(group, minlength=number) >= _LEAST_PIXELS) & (axes < _ROUND)
    members = np.flatnonzero(chosen & (spread > _SPREAD[0]) & (spread < _SPREAD[1]))
    row, column = np.rint(y[members]).astype(int), np.rint(x[members]).astype(int)
    places = where[row, column] + np.stack([x[members] - column, y[members] - row], axis=1)
    return _StarLike(labels, (members + 1).astype(np.intp), places, np.asarray(flux[members], np.float64))


def _on_paths(found: Sequence[_StarLike], clock: Sequence[float]) -> list[set[int]]:
    """Return the indices of those that three exposures show on a straight path at constant speed."""
    order = np.argsort(clock, kind="stable")
    chosen: list[set[int]] = [set() for _ in found]
    for ranks in combinations(range(len(order)), 3):
        if ranks[2] - ranks[0] > _SPAN:
            continue
        first, second, third = (int(order[rank]) for rank in ranks)
        if not all(len(found[index].places) for index in (first, second, third)):
            continue
        one, two, three = found[first], found[second], found[third]
        trees = [spatial.cKDTree(group.places) for group in (two, three)]
        pace = (clock[third] - clock[second]) / (clock[second] - clock[first])
        for number, (place, flux) in enumerate(zip(one.places, one.fluxes, strict=True)):
            for other in trees[0].query_ball_point(place, _REACH):
                step = two.places[other] - place
                if np.hypot(*step) < _STILL or not _alike(flux, two.fluxes[other]):
                    continue
                for last in trees[1].query_ball_point(two.places[other] + pace * step, _OFF_PATH):
                    if _alike(flux, three.fluxes[last]) and _alike(two.fluxes[other], three.fluxes[last]):
                        for index, member in ((first, number), (second, other), (third, last)):
                            chosen[index].add(member)
    return chosen


def _alike(one: float, other: float) -> bool:
    return bool(1 / _FLUX_FACTOR < one / other < _FLUX_FACTOR)


def _grown(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, TOUCHING, iterations=_GROWTH) if mask.any() else mask)
