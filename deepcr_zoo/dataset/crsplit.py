"""Cosmic rays in repeated exposures of one pointing (CR-SPLIT): signal that only one of them has (see `twopass`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepcr_zoo.dataset import twopass
from deepcr_zoo.dataset.twopass import find_excess, steepest
from deepcr_zoo.errors import DataError
from deepcr_zoo.models.images import TOUCHING, Image, Mask
from deepcr_zoo.zoo.recipe import CrSplitBlock

_NEIGHBOURHOOD = 5  # side of the medians that estimate the sky of a pixel
_ALONG = 7  # length of the medians along rows and columns: a signal that goes on over four pixels is a line, not hot


@dataclass(frozen=True, eq=False)
class RepeatedExposure:
    """One of several exposures on the same detector pixels, shape (H, W)."""

    image: Image  # e-, bias subtracted, with dark current and sky; finite everywhere
    usable: Mask  # False where saturated, flagged or without a value
    exposure_time_s: float
    read_noise_electron: float

    def noise(self, level: Image) -> Image:
        """Return sigma of read and Poisson noise (e-) of pixels at this level (e-), shape (H, W)."""
        return twopass.noise(level, self.read_noise_electron)


@dataclass(frozen=True, eq=False)
class RepeatLabel:
    """The label of one exposure, from the others, shape (H, W)."""

    cosmic_rays: Mask  # CR mask; False where ignored
    ignore: Mask  # ignore mask: not usable, hot, seen by no other exposure, or hidden
    hidden: Mask  # where cosmic rays of the other exposures may cover one of this exposure
    expected: Image  # prediction of the other exposures, e-


def find_hot_pixels(exposures: Sequence[RepeatedExposure], hot_snr: float) -> Mask:
    """Return the pixels (H, W) that exceed their surroundings by `hot_snr` sigma in most exposures, unlike cosmic rays.

    The surroundings are the medians of 5x5 pixels, of a piece of the row and of a piece of the column, whichever is
    brightest: an emission line or the ridge of a spectrum exceeds only the first. Exposures of several pointings are best:
    in two of one pointing a pixel that cosmic rays hit twice looks hot. Raises DataError if the exposures differ in shape.
    """
    _check_shapes(exposures)
    significances = []
    for exposure in exposures:
        sizes = ((_NEIGHBOURHOOD, _NEIGHBOURHOOD), (_ALONG, 1), (1, _ALONG))
        around = np.max([ndimage.median_filter(exposure.image, size) for size in sizes], axis=0)
        significances.append((exposure.image - around) / exposure.noise(around))
    # the lower of the two in the middle: half of the exposures are not most of them
    middle = (len(significances) - 1) // 2
    return np.asarray(np.partition(significances, middle, axis=0)[middle] > hot_snr)


def label_repeats(exposures: Sequence[RepeatedExposure], hot: Mask, settings: CrSplitBlock) -> list[RepeatLabel]:
    """Label the cosmic rays of each exposure by the others; hot pixels are ignored.

    Exposure times may differ, and backgrounds a little. Raises DataError for fewer than two exposures or different shapes.
    """
    if len(exposures) < 2:
        raise DataError("expected two repeated exposures or more: one alone has nothing to be compared with")
    _check_shapes(exposures)
    if hot.shape != exposures[0].image.shape:
        raise DataError(f"hot pixels have the shape {hot.shape}: expected that of the exposures, {exposures[0].image.shape}")
    compared = [
        _compare(one, [*exposures[:index], *exposures[index + 1 :]], settings) for index, one in enumerate(exposures)
    ]
    usable = np.stack([one.usable for one in exposures])
    near = np.stack([ndimage.binary_dilation(hit, TOUCHING) for hit, _, _ in compared]) & usable
    labels = []
    for index, (hit, raised, expected) in enumerate(compared):
        others = usable.sum(axis=0) - usable[index]
        spoils = others if settings.reference == "minimum" else (others + 1) // 2  # hits that falsify the prediction
        useless = ~usable[index] | hot | (others == 0)
        hidden = raised & ~hit & (near.sum(axis=0) - near[index] >= spoils) & ~useless
        labels.append(RepeatLabel(hit & ~useless, useless | hidden, hidden, expected))
    return labels


def _compare(
    exposure: RepeatedExposure, others: Sequence[RepeatedExposure], settings: CrSplitBlock
) -> tuple[Mask, Mask, Image]:
    """Return the pixels that exceed the others, those that exceed the sky around them, and the prediction of the others."""
    expected = _expect(exposure, others, settings)
    lower = np.minimum(exposure.image, expected)
    sky = ndimage.median_filter(lower, _NEIGHBOURHOOD)
    slope = steepest(sky)
    level = np.maximum(np.maximum(lower, sky), 0)  # `lower` has the Poisson noise of a warm pixel, its median does not
    # the prediction counts as noisy as one scaled exposure: the median of several is less, the minimum is biased
    ratios = np.array([exposure.exposure_time_s / other.exposure_time_s for other in others])
    read_noise = np.array([other.read_noise_electron for other in others])
    noise_squared = exposure.read_noise_electron**2 + np.mean((ratios * read_noise) ** 2)
    sigma = np.sqrt(noise_squared + (1 + ratios.mean()) * level)
    struck = find_excess(exposure.image - expected, sigma, slope, settings)
    raised = exposure.image - sky > settings.snr[1] * exposure.noise(level) + settings.gradient[1] * slope
    return struck, raised, expected.astype(np.float32)


def _expect(exposure: RepeatedExposure, others: Sequence[RepeatedExposure], settings: CrSplitBlock) -> Image:
    """Predict an exposure from the others, e-."""
    scaled = []
    for other in others:
        image = other.image * np.float32(exposure.exposure_time_s / other.exposure_time_s)
        # cosmic rays of the two cancel in the median: background and drifts of a bright source remain
        scaled.append(image + ndimage.median_filter(exposure.image - image, settings.offset_box))
    if len(others) == 1:
        return np.asarray(scaled[0])
    usable = np.stack([other.usable for other in others])
    seen = usable.any(axis=0)
    stack = np.where(usable | ~seen, np.stack(scaled), np.float32(np.nan))  # pixels that no exposure has seen are ignored
    reduce = np.nanmin if settings.reference == "minimum" else np.nanmedian
    return np.asarray(reduce(stack, axis=0))


def _check_shapes(exposures: Sequence[RepeatedExposure]) -> None:
    shapes = sorted({exposure.image.shape for exposure in exposures})
    if len(shapes) > 1:
        raise DataError(
            f"exposures have the shapes {', '.join(map(str, shapes))}: expected one, repeats are on the same pixels"
        )
