"""Fluxes of stars and galaxies that cosmic rays have hit, before and after their repair, against the true fluxes.

The flux of a source is the light in a circle around its brightest pixel, less the median of a ring around it. The true image
and all others are measured at the same places, so that fluxes differ by cosmic rays and their repair alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.bench.measures.inpainting import Fill, by_values
from deepcr_zoo.bench.measures.judgedpixels import JudgedStamps, OnExposure, judged_stamps
from deepcr_zoo.bench.measures.stars import BOX, IN_CORE, Images, Masks, Places, around, find_stars
from deepcr_zoo.bench.results import BEFORE, UNTOUCHED, PhotometryRow
from deepcr_zoo.dataset.reading import Dataset, Stamp
from deepcr_zoo.machine import require
from deepcr_zoo.models.images import replace_from_neighbours
from deepcr_zoo.zoo.recipe import FieldType

Kind = Literal["star", "galaxy"]

APERTURE_PIXELS: dict[Kind, float] = {"star": 3.0, "galaxy": 4.0}
"""Radius of the circle."""

RING_PIXELS = (6.0, 9.0)
"""Radii of the ring."""

MOST_UNKNOWN = 0.1
"""Share of the circle that may have no true value; these pixels are left out of all fluxes, the true one too."""

LEAST_SIGNAL_TO_NOISE = 10.0
"""Fainter sources, by their true flux, are left out."""

MOST_CONCENTRATION = 0.55
"""Light in 3x3 / light in 5x5 pixels of a galaxy; stars have 0.6 at least (`stars.LEAST_CONCENTRATION`)."""

Values = NDArray[np.float64]
FluxRatios = dict[tuple[str, Kind], Values]
"""Measured / true flux of each source, by method and kind; true / noiseless flux of `UNTOUCHED`."""

_SMOOTHING = 2.0  # sigma, pixels: faint galaxies stand out of the noise as a whole
_SMOOTH_SIGNAL_TO_NOISE = 5.0
_MARGIN = 9  # the ring lies within the stamp


@dataclass(frozen=True, eq=False)
class _Hit:
    """Stamps without and with cosmic rays (e-), inpainting mask and pixels without a true value, each (N, S, S).

    `scene` is without noise, None for real stamps.
    """

    true: Images
    image: Images
    mask: Masks
    unknown: Masks
    scene: Images | None = None


def describe() -> str:
    """Explain the rows in plain words, for reports."""
    inner, outer = RING_PIXELS
    return (
        f"Light of stars within {APERTURE_PIXELS['star']:g} pixels and of galaxies within "
        f"{APERTURE_PIXELS['galaxy']:g} pixels of the brightest one, less the median of a ring of "
        f"{inner:g} to {outer:g} pixels; ignored pixels, {MOST_UNKNOWN:.0%} of the circle at most, are left out. "
        "Galaxies are extended sources without a star, in crowded fields blends too. Sources are found in the true image "
        "and judged if a cosmic-ray pixel is in the circle and the true flux is "
        f"{LEAST_SIGNAL_TO_NOISE:g} sigma at least. Simulated stamps: the true image is without the simulated cosmic rays, "
        "methods fill the CR mask of the label, and what the label has missed stays in; scatter is that of measured against "
        "noiseless fluxes, also of the same sources untouched. Real stamps: the true image is the image itself, methods "
        "fill the CR masks of other stamps, and there is no flux before."
    )


def flux_ratios(
    fills: Mapping[str, Fill], dataset: Dataset, field_type: FieldType, seed: int, on_exposure: OnExposure = None
) -> FluxRatios:
    """Measure the sources that cosmic rays have hit in the test stamps of a field type; see `describe`.

    Methods, and `BEFORE` and `UNTOUCHED` of simulated stamps, share the sources of a kind, in the same order. `seed` chooses
    the masks that are added to real stamps.
    """
    require("photutils", "photometry needs photutils", "baselines")
    methods, names = dict(fills), list(fills)
    if all(group.truth for group in dataset.exposures("test", field_type)):
        methods = {BEFORE: by_values(lambda image, mask: image)} | methods
        names = [UNTOUCHED, *methods]
    found: dict[tuple[str, Kind], list[Values]] = {(name, kind): [] for kind in APERTURE_PIXELS for name in names}
    everything = dataset.stamps("test")
    for stamps in judged_stamps(dataset, field_type, on_exposure=on_exposure):
        hit, noise = _hit(stamps, everything, seed), stamps.group.noise()
        images = {name: fill(hit.image, hit.mask, noise).values for name, fill in methods.items()}
        for kind, places in _sources(hit).items():
            true = _flux(hit.true, hit.unknown, places, kind)
            for name, image in images.items():
                found[name, kind].append(_flux(image, hit.unknown, places, kind) / true)
            if hit.scene is not None and (UNTOUCHED, kind) in found:
                noiseless = _flux(hit.scene, hit.unknown, places, kind)
                found[UNTOUCHED, kind].append(true / np.where(noiseless > 0, noiseless, np.nan))
    return {key: np.concatenate([*parts, np.empty(0)]) for key, parts in found.items()}


def rows(ratios: FluxRatios, field_type: str) -> list[PhotometryRow]:
    """Return a row for each method and kind: stars, then galaxies."""
    has_scene = any(method == UNTOUCHED for method, _ in ratios)

    def row(method: str, kind: Kind, ratio: Values) -> PhotometryRow:
        error = ratio[~np.isnan(ratio)] - 1
        size, known = np.abs(error), len(error) > 0
        return PhotometryRow(
            method=method,
            field_type=field_type,
            kind=kind,
            sources=len(error),
            bias=float(np.median(error)) if known else None,
            error=float(np.median(size)) if known else None,
            within_5_percent=float(np.mean(size <= 0.05)) if known else None,
            scatter=_scatter(ratio, None if method == UNTOUCHED else ratios.get((UNTOUCHED, kind))) if has_scene else None,
        )

    return [row(method, kind, ratio) for (method, kind), ratio in ratios.items()]


def _scatter(ratio: Values, untouched: Values | None) -> float | None:
    """Return the scatter of measured / noiseless fluxes, from measured / true and true / noiseless ones."""
    to_noiseless = ratio if untouched is None else ratio * untouched
    known = to_noiseless[~np.isnan(to_noiseless)]
    return float(np.ptp(np.percentile(known, [16, 84])) / 2) if len(known) else None


def _hit(stamps: JudgedStamps, everything: Sequence[Stamp], seed: int) -> _Hit:
    image, label = stamps.image, stamps.cosmic_rays
    if stamps.group.truth is not None:
        truth = stamps.group.read_truth()
        true = image - truth["cosmic_rays"]
        return _Hit(true, image, mask=label, unknown=stamps.ignore, scene=truth["scene"])
    added = masks_of_others(stamps.numbers, everything, seed)
    return _Hit(image, image, mask=added | label, unknown=label | stamps.ignore)


def masks_of_others(numbers: range, everything: Sequence[Stamp], seed: int) -> Masks:
    """Return the CR mask of another stamp for each of these, drawn per (seed, first stamp)."""
    steps = np.random.default_rng([seed, numbers.start]).integers(1, len(everything), len(numbers))
    others = (np.array(numbers) + steps) % len(everything)  # a step of 1 to n - 1 leads to any stamp but the same
    return np.stack([everything[other].cosmic_rays for other in others.tolist()]).astype(bool)


def _sources(hit: _Hit) -> dict[Kind, Places]:
    """Return the brightest pixels of the sources to judge."""
    stars, _ = find_stars(hit.true, hit.unknown)
    found: dict[Kind, Places] = {"star": stars, "galaxy": _galaxies(hit.true, hit.unknown, stars)}
    return {kind: _judged(hit, places[:, _is_inside(hit.true, places)], kind) for kind, places in found.items()}


def _judged(hit: _Hit, places: Places, kind: Kind) -> Places:
    steps, weights = _circle(APERTURE_PIXELS[kind])
    is_hit = around(hit.mask & ~hit.unknown, places, steps).any(axis=1)
    is_known = around(hit.unknown, places, steps) @ weights <= MOST_UNKNOWN * weights.sum()
    places = places[:, is_hit & is_known]
    flux = _flux(hit.true, hit.unknown, places, kind)
    low, middle = np.percentile(around(hit.true, places, _ring(RING_PIXELS)), [16, 50], axis=1)
    noise = np.sqrt(np.maximum(flux, 0) + weights.sum() * (middle - low) ** 2)  # of its own electrons, and of the sky
    return places[:, flux >= LEAST_SIGNAL_TO_NOISE * noise]


def _galaxies(true: Images, unknown: Masks, stars: Places) -> Places:
    """Return maxima of the smoothed image that are wider than a star and have none in their aperture."""
    seen = np.stack([replace_from_neighbours(one, bad, ~bad) for one, bad in zip(true, unknown, strict=True)])
    smooth = ndimage.gaussian_filter(seen, (0, _SMOOTHING, _SMOOTHING))
    low, middle = np.percentile(smooth, [16, 50], axis=(1, 2))[:, :, None, None]
    floor = middle + _SMOOTH_SIGNAL_TO_NOISE * (middle - low)
    places = np.array(np.nonzero((smooth == ndimage.maximum_filter(smooth, (1, 7, 7))) & (smooth > floor)))
    places = places[:, _is_inside(true, places)]
    is_star = np.zeros(true.shape, dtype=bool)
    is_star[tuple(stars)] = True
    has_star = around(is_star, places, _circle(APERTURE_PIXELS["galaxy"])[0]).any(axis=1)
    box = around(seen, places, BOX) - np.median(around(seen, places, _ring(RING_PIXELS)), axis=1, keepdims=True)
    return places[:, ~has_star & (box[:, IN_CORE].sum(axis=1) <= MOST_CONCENTRATION * box.sum(axis=1))]


def _is_inside(image: Images, places: Places) -> Masks:
    return np.asarray(((places[1:] >= _MARGIN) & (places[1:] < image.shape[1] - _MARGIN)).all(axis=0))


def _flux(image: Images, unknown: Masks, places: Places, kind: Kind) -> Values:
    """Return the light in the aperture above that of the ring, e-, shape (K,)."""
    steps, weights = _circle(APERTURE_PIXELS[kind])
    sky = np.median(around(image, places, _ring(RING_PIXELS)), axis=1, keepdims=True)
    known = ~around(unknown, places, steps)
    return np.asarray(((around(image, places, steps) - sky) * known) @ weights)


@cache
def _circle(radius_pixels: float) -> tuple[NDArray[np.intp], Values]:
    """Return steps from the centre to each pixel of the circle, shape (A, 2), and how much of the pixel is in it."""
    from photutils.aperture import CircularAperture

    return _weighted(CircularAperture((0, 0), radius_pixels).to_mask(method="exact").data)


@cache
def _ring(radii_pixels: tuple[float, float]) -> NDArray[np.intp]:
    """Return steps from the centre to each pixel whose middle is in the ring."""
    from photutils.aperture import CircularAnnulus

    return _weighted(CircularAnnulus((0, 0), *radii_pixels).to_mask(method="center").data)[0]


def _weighted(mask: Values) -> tuple[NDArray[np.intp], Values]:
    steps = np.argwhere(mask > 0)
    return steps - mask.shape[0] // 2, mask[mask > 0]
