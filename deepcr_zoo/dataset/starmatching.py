"""Alignment of exposures of one field by their stars, with or without a WCS: positions, seeing, transparency and sky."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import spatial

from deepcr_zoo.errors import catching_warnings
from deepcr_zoo.exposures.fitsfiles import quiet_astropy
from deepcr_zoo.machine import require

Positions = NDArray[np.float64]
"""x and y in pixels, counted from 0 at the centre of the first, shape (N, 2)."""

MOST_STARS = 400  # the brightest of an exposure
_GUESSED_FWHM = 3.0  # pixels, of the kernel that stars are searched with
_DETECTION_SIGMA = 5.0
_SHARPNESS = (0.2, 0.85)  # of DAOFIND: single hot pixels are sharper, extended sources are less
_TOLERANCE = 1.5  # pixels, between a star and its counterpart once the offset is known
_ABOVE_CHANCE = 3.0  # times the matches of random positions
_SEPARATION = 4.0  # pixels: nearer pairs are confused
_LEAST_ERROR = 0.03  # pixels, of the position of a bright star
_SHAPE_STARS, _SHAPE_REACH = 15, 7  # stars whose widths are measured, and pixels around their centres
_STARS_FOR_ROTATION, _STARS_FOR_SHEAR = 6, 20  # fewer stars fit a shift, or a shift and rotation
_BACKGROUND_BOX = 64  # pixels
_FARTHEST, _PROBES = 2, 9  # sides of the reference that an exposure lies beside it; places along a side that show it
_NODES = 64  # pixels between places whose sky position is computed; distortion bends little between them


@dataclass(frozen=True, eq=False)
class Frame:
    """An exposure to be aligned."""

    image: NDArray[np.float32]  # e-, finite, shape (H, W)
    usable: NDArray[np.bool_]  # shape (H, W)
    wcs: WCS | None


@dataclass(frozen=True, eq=False)
class Alignment:
    """The position of an exposure relative to the reference, and what its stars tell of the sky."""

    matrix: NDArray[np.float64]  # shape (2, 2); reference pixel = matrix @ (pixel, by the WCS if there is one) + shift
    shift: NDArray[np.float64]  # x and y, pixels
    stars: int  # matched; 0 if the WCS is trusted
    residual_pixels: float | None  # RMS distance of the matched stars; None if the WCS is trusted
    fwhm_pixels: float | None  # median of the matched stars
    flux_ratio: float | None  # of the matched stars, to those of the reference
    sky_electron: float


@dataclass(frozen=True, eq=False)
class _Stars:
    """The brightest stars of an exposure, the brightest first."""

    places: Positions
    weights: NDArray[np.float64]  # 1 / square of the error of a position, 1 / pixels^2
    sky: float  # e-


def require_matching() -> None:
    """Raise MissingExtraError if the packages that detect, match and resample are missing."""
    for module in ("drizzle", "photutils", "tweakwcs"):
        require(module, f"labels dithers need {module}", "build")


def align(frames: Sequence[Frame], search_pixels: float, min_stars: int) -> tuple[int, list[Alignment | None]]:
    """Return the index of the reference, and the alignment of each exposure to it; None where there is none.

    The reference is the exposure with most stars to which at least half of the others can be aligned. Where both have a WCS,
    positions are compared by it; else exposures are matched as they are, or turned by half a turn (after a meridian flip).
    """
    found = [_find_stars(frame) for frame in frames]
    reference, matches = _choose_reference(frames, found, search_pixels, min_stars)
    alignments: list[Alignment | None] = []
    fwhms = [
        measure_fwhm(frame.image - np.float32(own.sky), frame.usable, own.places[np.sort(match.own)]) if match else None
        for frame, own, match in zip(frames, found, matches, strict=True)
    ]
    radius = 1.5 * max((one for one in fwhms if one is not None), default=_GUESSED_FWHM)
    for index, match in enumerate(matches):
        if match is None or not _is_near(frames[index], frames[reference], match):
            alignments.append(None)
            continue
        places = found[index].places[match.own], found[reference].places[match.reference]
        pair, skies = (frames[index], frames[reference]), (found[index].sky, found[reference].sky)
        ratio = _flux_ratio(pair, skies, places, radius) if match.residual is not None else None
        alignments.append(
            Alignment(match.matrix, match.shift, len(match.own), match.residual, fwhms[index], ratio, skies[0])
        )
    return reference, alignments


def to_reference(places: Positions, alignment: Alignment, own: WCS | None, reference: WCS | None) -> Positions:
    """Return the positions in the reference of positions in an exposure."""
    return _by_wcs(places, own, reference) @ alignment.matrix.T + alignment.shift


def pixel_map(shape: tuple[int, int], alignment: Alignment, own: WCS | None, reference: WCS | None) -> NDArray[np.float64]:
    """Return x and y in the reference of all pixels of an exposure, shape (H, W, 2)."""
    nodes = [np.unique(np.append(np.arange(0, side, _NODES), side - 1)) for side in shape]
    grid = np.stack(np.meshgrid(nodes[1], nodes[0]), axis=-1).astype(float)
    there = to_reference(grid.reshape(-1, 2), alignment, own, reference).reshape(grid.shape)
    rows = [np.stack([np.interp(np.arange(shape[1]), nodes[1], line) for line in there[..., axis]]) for axis in (0, 1)]
    place = np.interp(np.arange(shape[0]), nodes[0], np.arange(len(nodes[0])))
    below = np.minimum(place.astype(int), max(len(nodes[0]) - 2, 0))
    above = np.minimum(below + 1, len(nodes[0]) - 1)
    share = (place - below)[:, None]
    return np.stack([layer[below] * (1 - share) + layer[above] * share for layer in rows], axis=-1)


def _is_near(frame: Frame, reference: Frame, match: _Match) -> bool:
    """True if all of an exposure lies around the reference, so that a grid can hold both."""
    columns, rows = (np.linspace(0, side - 1, _PROBES) for side in frame.image.shape[::-1])
    places = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    there = _by_wcs(places, frame.wcs, reference.wcs) @ match.matrix.T + match.shift
    sides = np.array(reference.image.shape[::-1])
    return bool(((there > -_FARTHEST * sides) & (there < (1 + _FARTHEST) * sides)).all())  # not where it is NaN


@dataclass(frozen=True, eq=False)
class _Match:
    own: NDArray[np.intp]  # indices of the matched stars
    reference: NDArray[np.intp]
    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    residual: float | None


def _choose_reference(
    frames: Sequence[Frame], found: Sequence[_Stars], search_pixels: float, min_stars: int
) -> tuple[int, list[_Match | None]]:
    """Return the reference and the match of each exposure with it."""
    candidates = np.argsort([-len(one.places) for one in found], kind="stable").tolist()
    best: tuple[int, list[_Match | None]] | None = None
    for reference in candidates:
        matches = [_match(frames, found, index, reference, search_pixels, min_stars) for index in range(len(frames))]
        aligned = sum(match is not None for match in matches)
        if best is None or aligned > sum(match is not None for match in best[1]):
            best = reference, matches
        if 2 * (aligned - 1) >= len(frames) - 1:
            break
    assert best is not None
    return best


def _match(
    frames: Sequence[Frame], found: Sequence[_Stars], index: int, reference: int, search_pixels: float, min_stars: int
) -> _Match | None:
    """Match the stars of an exposure with those of the reference."""
    none = np.empty(0, np.intp)
    own, other = found[index], found[reference]
    if index == reference:
        everything = np.arange(len(own.places))
        return _Match(everything, everything, np.eye(2), np.zeros(2), 0.0)
    wcs = frames[index].wcs, frames[reference].wcs
    by_wcs = all(one is not None for one in wcs)
    guess = dataclasses.replace(own, places=_by_wcs(own.places, *wcs))
    best = _fit(guess, other, search_pixels, min_stars)
    if best is not None or by_wcs:
        return best or _Match(none, none, np.eye(2), np.zeros(2), None)
    height, width = frames[index].image.shape
    corner = np.array([width - 1.0, height - 1.0])
    turned = _fit(dataclasses.replace(own, places=corner - own.places), other, search_pixels, min_stars)
    if turned is None:
        return None
    return dataclasses.replace(turned, matrix=-turned.matrix, shift=turned.shift + turned.matrix @ corner)


def _fit(own: _Stars, reference: _Stars, search_pixels: float, min_stars: int) -> _Match | None:
    """Match stars whose positions differ by a shift and little else, and fit a linear transformation."""
    from astropy.table import Table
    from tweakwcs.linearfit import NotEnoughPointsError, SingularMatrixError, iter_linear_fit
    from tweakwcs.matchutils import MatchSourceConfusionError, XYXYMatch

    places, other = own.places, reference.places
    if min(len(places), len(other)) < min_stars:
        return None
    matrix, shift = np.eye(2), _most_common_offset(places, other, search_pixels)
    fit: dict[str, Any] = {}
    one = two = np.empty(0, np.intp)
    matcher = XYXYMatch(separation=_SEPARATION, tolerance=_TOLERANCE, use2dhist=False)
    for _ in range(2):  # the second round matches what a rotation had moved too far
        tables = [Table({"TPx": xy[:, 0], "TPy": xy[:, 1]}) for xy in (other, places @ matrix.T + shift)]
        try:
            with _quiet():
                two, one = matcher(*tables)
                if len(one) < min_stars:
                    return None
                shape = "shift" if len(one) < _STARS_FOR_ROTATION else "rshift" if len(one) < _STARS_FOR_SHEAR else "general"
                weights = 1 / (1 / own.weights[one] + 1 / reference.weights[two])
                fit = iter_linear_fit(
                    other[two], places[one], weights, fitgeom=shape, center=(0.0, 0.0), nclip=5, sigma=(3.0, "rmse")
                )
        except (MatchSourceConfusionError, NotEnoughPointsError, SingularMatrixError):
            return None
        matrix, shift = np.asarray(fit["matrix"], float), np.asarray(fit["shift"], float)
    kept = np.asarray(fit["fitmask"], bool)
    by_chance = len(places) * len(other) * np.pi * _TOLERANCE**2 / np.prod(np.ptp(other, axis=0))
    if kept.sum() < max(min_stars, _ABOVE_CHANCE * by_chance):
        return None
    return _Match(np.asarray(one)[kept], np.asarray(two)[kept], matrix, shift, float(fit["rmse"]))


def _most_common_offset(places: Positions, other: Positions, search_pixels: float) -> NDArray[np.float64]:
    """Return the offset, within the search radius, that most pairs of positions have."""
    offsets = (other[None] - places[:, None]).reshape(-1, 2)
    offsets = offsets[np.hypot(*offsets.T) <= search_pixels]
    if not len(offsets):
        return np.zeros(2)
    tree = spatial.cKDTree(offsets)
    votes = tree.query_ball_point(offsets, _TOLERANCE, return_length=True)
    return np.asarray(np.median(offsets[tree.query_ball_point(offsets[int(np.argmax(votes))], _TOLERANCE)], axis=0))


def _find_stars(frame: Frame) -> _Stars:
    """Find the brightest stars of an exposure; what only one exposure has is not matched later."""
    from astropy.stats import sigma_clipped_stats
    from photutils.detection import DAOStarFinder

    masked = ~frame.usable
    if masked.all():
        return _Stars(np.empty((0, 2)), np.empty(0), 0.0)
    level = background_map(frame.image, frame.usable)
    with _quiet():
        _, _, noise = sigma_clipped_stats(frame.image - level, mask=masked)
        finder = DAOStarFinder(
            threshold=_DETECTION_SIGMA * float(noise), fwhm=_GUESSED_FWHM, sharpness_range=_SHARPNESS, n_brightest=MOST_STARS
        )
        table = finder(frame.image - level, mask=masked)
    if table is None:
        return _Stars(np.empty((0, 2)), np.empty(0), float(np.median(level)))
    table.sort("flux", reverse=True)
    places = np.stack([np.asarray(table[name], float) for name in ("x_centroid", "y_centroid")], axis=1)
    signal = np.maximum(np.asarray(table["peak"], float) / float(noise), 1.0)
    error = np.hypot(_LEAST_ERROR, _GUESSED_FWHM / 2 / signal)
    return _Stars(places, error**-2, float(np.median(level)))


def background_map(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the clipped medians of boxes of usable pixels, interpolated to all pixels, shape (H, W)."""
    from photutils.background import Background2D, MedianBackground

    if not usable.any():
        return np.zeros(image.shape, np.float32)
    box = min(_BACKGROUND_BOX, *image.shape)
    with _quiet():
        try:
            found = Background2D(
                image, box, mask=~usable, exclude_percentile=90.0, filter_size=3, bkg_estimator=MedianBackground()
            ).background
        except ValueError:  # no box has a tenth of its pixels
            found = np.full(image.shape, np.median(image[usable]))
    return np.asarray(found, np.float32)


def measure_fwhm(image: NDArray[np.float32], usable: NDArray[np.bool_], places: Positions) -> float | None:
    """Return the median FWHM of stars, pixels; the image is free of sky, and the brightest stars come first."""
    from photutils.psf import fit_fwhm

    reach = _SHAPE_REACH
    height, width = image.shape
    x, y = np.rint(places).astype(int).T
    inside = (x >= reach) & (y >= reach) & (x < width - reach) & (y < height - reach)
    sound = [
        place
        for place, column, row in zip(places[inside], x[inside], y[inside], strict=True)
        if usable[row - reach : row + reach + 1, column - reach : column + reach + 1].all()
    ][:_SHAPE_STARS]
    if not sound:
        return None
    with _quiet():
        widths = fit_fwhm(image, xypos=np.array(sound), fwhm=_GUESSED_FWHM, fit_shape=2 * reach + 1, mask=~usable)
    sane = widths[np.isfinite(widths) & (widths < 2 * reach)]
    return float(np.median(sane)) if sane.size else None


def _flux_ratio(
    frames: tuple[Frame, Frame], skies: tuple[float, float], places: tuple[Positions, Positions], radius: float
) -> float | None:
    """Return the median ratio of the fluxes of the same stars in two exposures."""
    from photutils.aperture import ApertureStats, CircularAperture

    if not len(places[0]):
        return None

    sums = [
        ApertureStats(frame.image - np.float32(sky), CircularAperture(place, radius), mask=~frame.usable).sum
        for frame, sky, place in zip(frames, skies, places, strict=True)
    ]
    own, other = (np.asarray(one, float) for one in sums)
    counted = (own > 0) & (other > 0)
    return float(np.median(own[counted] / other[counted])) if counted.any() else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what photutils and tweakwcs log and warn about single stars."""
    logger = logging.getLogger("tweakwcs")
    before = logger.disabled, logger.level
    logger.setLevel(logging.ERROR)
    with catching_warnings(), quiet_astropy():
        warnings.simplefilter("ignore")
        yield
    logger.disabled, level = before
    logger.setLevel(level)


def _by_wcs(places: Positions, own: WCS | None, other: WCS | None) -> Positions:
    """Return the pixels of another exposure that show the same sky, or the same pixels without a WCS."""
    if own is None or other is None or own is other:
        return places
    with quiet_astropy():
        return np.asarray(other.all_world2pix(own.all_pix2world(places, 0), 0, quiet=True))
