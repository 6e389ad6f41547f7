"""Cosmic rays in dithered exposures of one field: signal that the median of the others, blotted to an exposure, has not.

Exposures may differ in pointing, exposure time, sky, transparency and seeing; their positions come from `starmatching`.
Resampling is that of the drizzle package (Fruchter & Hook 2002), the test that of AstroDrizzle (see `twopass`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset import trails, twopass
from deepcr_zoo.dataset.labelling import VisitRejectedError
from deepcr_zoo.dataset.starmatching import Alignment, background_map, pixel_map
from deepcr_zoo.dataset.twopass import find_excess, steepest
from deepcr_zoo.errors import DataError
from deepcr_zoo.models.images import Image, Mask
from deepcr_zoo.zoo.recipe import DithersBlock

PixelMap = NDArray[np.float64]

_ROUNDS = 2  # the second leaves the cosmic rays of the first out of the median
_FEW = 3  # of so few others the minimum counts where their median is out of line (AstroDrizzle's minmed)
_OUT_OF_LINE = 4.0  # sigma of the noise (AstroDrizzle's combine_nsigma)
_MEDIAN_VARIANCE = np.pi / 2  # of a median, relative to that of a mean of many
_LEAST_WEIGHT = 0.25  # of a pixel, covered by good pixels of an exposure, to count as seen
_WIDTH = 2 * np.sqrt(2 * np.log(2))  # FWHM / sigma of a Gaussian
_SIGNAL_SIGMA = 3.0  # a scene this far above the sky has a shape that seeing changes
_RESAMPLING_VARIANCE = 1 / 6  # pixels^2, by which a shift of a random part of a pixel widens the square kernel's stars
_STABLE = 0.4  # pixels^2, largest variance of one step of diffusion

MOST_TIMES = 20
"""Pixels of the common grid, in all pixels of the exposures: twenty in a diagonal row, which overlap a little, reach it."""


@dataclass(frozen=True, eq=False)
class DitheredExposure:
    """One of several exposures of a field, shape (H, W)."""

    image: Image  # e-, bias subtracted; finite everywhere
    usable: Mask  # False where saturated, flagged or without a value
    exposure_time_s: float
    read_noise_electron: float
    wcs: WCS | None = None
    time_s: float | None = None  # of its middle, on any clock that all share

    def noise(self, level: Image) -> Image:
        """Return sigma of read and Poisson noise (e-) of pixels at this level (e-), shape (H, W)."""
        return twopass.noise(level, self.read_noise_electron)


@dataclass(frozen=True, eq=False)
class DitherLabel:
    """The label of one exposure, from the others, shape (H, W); the masks after `ignore` are parts of it."""

    cosmic_rays: Mask  # CR mask; False where ignored
    ignore: Mask
    unseen: Mask  # usable pixels that too few others have seen
    cores: Mask  # where the difference of seeing may hide a cosmic ray
    moving: Mask  # trails of satellites, and objects that move
    expected: Image  # prediction of the others, e-
    on_grid: Image  # the exposure on a grid that all share, without sky and cosmic rays; NaN where not seen


@dataclass(frozen=True, eq=False)
class _Prediction:
    expected: Image  # e-, of the scene with sky
    seen: NDArray[np.int16]  # others that have seen each pixel
    sigma: Image  # noise of the difference, e-
    seeing: Image  # what the difference of seeing may explain, e-


def label_dithers(
    exposures: Sequence[DitheredExposure], alignments: Sequence[Alignment], reference: int, settings: DithersBlock
) -> list[DitherLabel]:
    """Label the cosmic rays of each exposure by the others.

    Raises DataError for fewer than two exposures, VisitRejectedError for a grid without bound.
    """
    if len(exposures) < 2:
        raise DataError("expected two dithered exposures or more: one alone has nothing to be compared with")
    maps, shape = _common_grid(exposures, alignments, reference)
    scales = _scales(exposures, alignments, reference)
    struck = [np.zeros(one.image.shape, bool) for one in exposures]
    predictions: list[_Prediction] = []
    layers: list[_Layer] = []
    for _ in range(_ROUNDS):
        layers = [
            _drizzle(one, alignment, scale, where, ~hit, shape)
            for one, alignment, scale, where, hit in zip(exposures, alignments, scales, maps, struck, strict=True)
        ]
        predictions = [
            _predict(one, scale, [*layers[:index], *layers[index + 1 :]], where, _excess_variance(alignments, index))
            for index, (one, scale, where) in enumerate(zip(exposures, scales, maps, strict=True))
        ]
        struck = [_find(one, found, settings) for one, found in zip(exposures, predictions, strict=True)]
    excesses = [one.image - found.expected for one, found in zip(exposures, predictions, strict=True)]
    moving = trails.find_moving(
        struck, excesses, maps, [one.time_s for one in exposures], [one.fwhm_pixels for one in alignments]
    )
    return [
        _label(one, found, hit, moved, layer.image, settings)
        for one, found, hit, moved, layer in zip(exposures, predictions, struck, moving, layers, strict=True)
    ]


def _label(
    one: DitheredExposure, found: _Prediction, struck: Mask, moving: Mask, on_grid: Image, settings: DithersBlock
) -> DitherLabel:
    unseen = one.usable & (found.seen < settings.min_others)
    cores = one.usable & ~struck & (found.seeing > settings.max_core_sigma * found.sigma)
    ignore = ~one.usable | unseen | cores | moving
    return DitherLabel(struck & ~ignore, ignore, unseen, cores, moving & one.usable, found.expected, on_grid)


def _find(one: DitheredExposure, found: _Prediction, settings: DithersBlock) -> Mask:
    excess = one.image - found.expected - found.seeing
    struck = find_excess(excess, found.sigma, steepest(found.expected), settings)
    return np.asarray(struck & one.usable & (found.seen > 0))


def _common_grid(
    exposures: Sequence[DitheredExposure], alignments: Sequence[Alignment], reference: int
) -> tuple[list[PixelMap], tuple[int, int]]:
    """Return where the pixels of each exposure lie on a grid that holds all of them, and its shape."""
    wcs = exposures[reference].wcs
    maps = [pixel_map(one.image.shape, where, one.wcs, wcs) for one, where in zip(exposures, alignments, strict=True)]
    low = np.floor(np.min([one.min(axis=(0, 1)) for one in maps], axis=0))
    high = np.ceil(np.max([one.max(axis=(0, 1)) for one in maps], axis=0))
    columns, rows = (int(side) + 1 for side in high - low)
    if rows * columns > MOST_TIMES * sum(one.image.size for one in exposures):
        raise VisitRejectedError(
            f"its exposures need a grid of {columns:,} x {rows:,} pixels, more than {MOST_TIMES} times their own: "
            "their places on the sky (WCS) or distortions are wrong"
        )
    return [one - low for one in maps], (rows, columns)


@dataclass(frozen=True, eq=False)
class _Layer:
    """An exposure on the common grid, without its sky, in e- of the reference; NaN where not seen."""

    image: Image
    variance: Image


def _drizzle(
    one: DitheredExposure, alignment: Alignment, scale: float, where: PixelMap, clean: Mask, shape: tuple[int, int]
) -> _Layer:
    from drizzle.resample import Drizzle

    sky = np.float32(alignment.sky_electron)
    resampler = Drizzle(kernel="square", fillval="NAN", out_shape=shape, disable_ctx=True)
    good = one.usable & clean
    image = np.where(good, one.image - sky, np.float32(0))
    resampler.add_image(image, exptime=1.0, pixmap=where, weight_map=good.astype(np.float32), in_units="cps")
    seen = resampler.out_wht > _LEAST_WEIGHT
    resampled = np.where(seen, resampler.out_img, np.float32(np.nan)).astype(np.float32)
    return _Layer(
        resampled / np.float32(scale), np.asarray((one.noise(resampled + sky) / np.float32(scale)) ** 2, np.float32)
    )


def _scales(exposures: Sequence[DitheredExposure], alignments: Sequence[Alignment], reference: int) -> list[float]:
    """Return the electrons of each exposure for an electron of the reference: by its stars, else by exposure time."""
    return [
        one.exposure_time_s / exposures[reference].exposure_time_s if where.flux_ratio is None else where.flux_ratio
        for one, where in zip(exposures, alignments, strict=True)
    ]


def _predict(
    exposure: DitheredExposure, scale: float, others: Sequence[_Layer], where: PixelMap, excess_variance: float
) -> _Prediction:
    """Predict an exposure from the others, whose stars have the given variance (pixels^2) less than its own."""
    image, variance, seen = _combine(others)
    blotted = _blot(image, where) * np.float32(scale)
    count = _look_up(np.where(ndimage.minimum_filter(seen, 3) > 0, seen, 0), where)
    counted = exposure.usable & (count > 0)
    scene = blotted + background_map(exposure.image - blotted, counted)
    is_bright = blotted > _SIGNAL_SIGMA * exposure.noise(scene)
    seeing = np.where(is_bright, _diffused(blotted, excess_variance) - blotted, np.float32(0))
    expected = np.where(count > 0, scene + seeing, exposure.image)
    sigma = np.sqrt(exposure.noise(expected) ** 2 + _look_up(variance, where) * np.float32(scale**2))
    return _Prediction(expected, count, np.where(count > 0, sigma, np.float32(np.inf)), np.abs(seeing))


def _combine(layers: Sequence[_Layer]) -> tuple[Image, Image, NDArray[np.int16]]:
    """Return the median of what has been seen (0 where nothing has), its variance, and by how many it is seen."""
    ordered = np.sort([one.image for one in layers], axis=0)  # NaN comes last
    seen = np.isfinite(ordered).sum(axis=0)
    middle = [np.take_along_axis(ordered, (np.maximum(seen - off, 0) // 2)[None], axis=0)[0] for off in (1, 0)]
    # of an odd number both are the same, of an even one the two in the middle
    median = (middle[0] + np.where(seen % 2, middle[0], middle[1])) / 2
    single = np.nansum([one.variance for one in layers], axis=0) / np.maximum(seen, 1)
    is_low = (seen <= _FEW) & (median - ordered[0] > _OUT_OF_LINE * np.sqrt(single))
    combined = np.where(is_low, ordered[0], median)
    variance = single / np.maximum(seen, 1) * np.where(seen > 2, np.float32(_MEDIAN_VARIANCE), np.float32(1))
    return (
        np.where(seen > 0, combined, np.float32(0)),
        np.where(is_low, single, variance).astype(np.float32),
        seen.astype(np.int16),
    )


def _blot(image: Image, where: PixelMap) -> Image:
    from drizzle.resample import blot_image

    return np.asarray(blot_image(image, where, iscale=1.0, interp="poly5", fillval=0.0), np.float32)


def _look_up(layer: NDArray[Any], where: PixelMap) -> NDArray[Any]:
    """Return the value of the nearest pixel of the grid."""
    column, row = (np.rint(where[..., axis]).astype(np.intp) for axis in (0, 1))
    return np.asarray(layer[np.clip(row, 0, layer.shape[0] - 1), np.clip(column, 0, layer.shape[1] - 1)])


def _excess_variance(alignments: Sequence[Alignment], index: int) -> float:
    """Return how much wider the stars of an exposure are than those of the others when resampled, pixels^2 (of sigma)."""
    own = alignments[index].fwhm_pixels
    others = [width for number, one in enumerate(alignments) if number != index and (width := one.fwhm_pixels)]
    if own is None or not others:
        return 0.0
    return float((own / _WIDTH) ** 2 - np.median(np.square(others)) / _WIDTH**2 - _RESAMPLING_VARIANCE)


def _diffused(image: Image, variance: float) -> Image:
    """Return the image seen through more or, to first order, less seeing: diffusion widens a star by this variance."""
    wider = image
    for _ in range(steps := max(1, int(np.ceil(abs(variance) / _STABLE)))):
        wider = wider + np.float32(abs(variance) / steps / 2) * ndimage.laplace(wider)
    return np.asarray(wider if variance >= 0 else 2 * image - wider)
