"""Labels from repeated exposures of one pointing (CR-SPLIT): a cosmic ray is what one has and the others have not.

The two-pass test of AstroDrizzle's driz_cr (DrizzlePac Handbook), with the other exposures in place of the median image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import DataError
from deepcr_zoo.zoo.recipe import CrSplitBlock

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

TOUCHING = np.ones((3, 3), dtype=bool)
"""What touches a pixel, itself included."""

_NEIGHBOURHOOD = 5
"""Side of the medians that stand for the sky of a pixel."""

_ALONG = 7
"""Length of the medians along rows and columns: what goes on over four pixels is a line or a ridge, and not hot."""


@dataclass(frozen=True, eq=False)
class RepeatedExposure:
    """One of several exposures on the same detector pixels.

    Attributes
    ----------
    image : ndarray of float32, shape (H, W)
        e-, bias subtracted, dark current and sky as they were recorded; finite everywhere.
    usable : ndarray of bool, shape (H, W)
        False where saturated, flagged or without a value.
    exposure_time_s : float
    read_noise_electron : float
    """

    image: Image
    usable: Mask
    exposure_time_s: float
    read_noise_electron: float

    def noise(self, level: Image) -> Image:
        """Sigma of read and Poisson noise, e-, of pixels that hold so many electrons, shape (H, W)."""
        return np.asarray(np.sqrt(np.float32(self.read_noise_electron**2) + np.maximum(level, 0)))


@dataclass(frozen=True, eq=False)
class RepeatLabel:
    """What the other exposures tell of one.

    Attributes
    ----------
    cosmic_rays : ndarray of bool, shape (H, W)
        CR mask; False where ignored.
    ignore : ndarray of bool, shape (H, W)
        Ignore mask: not usable, hot, seen by no other, or not to be told because cosmic rays of the others may cover one.
    hidden : ndarray of bool, shape (H, W)
        The last of these alone.
    expected : ndarray of float32, shape (H, W)
        What the others would have this exposure see, e-.
    """

    cosmic_rays: Mask
    ignore: Mask
    hidden: Mask
    expected: Image


def hot_pixels(exposures: Sequence[RepeatedExposure], hot_snr: float) -> Mask:
    """Pixels that stand out of their surroundings in most exposures, which cosmic rays do not, shape (H, W).

    The surroundings are the medians of 5x5 pixels, of a piece of the row and of a piece of the column, whichever is
    brightest: an emission line or the ridge of a spectrum stands out of the first alone.

    Parameters
    ----------
    exposures : sequence of RepeatedExposure
        Best of several pointings: of two alone, a pixel that cosmic rays have hit in both passes for a hot one.
    hot_snr : float
        In sigma of read and Poisson noise.

    Raises
    ------
    DataError
        If the exposures differ in shape.
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
    """Label the cosmic rays of each exposure by the others.

    Parameters
    ----------
    exposures : sequence of RepeatedExposure
        Two or more; their exposure times may differ, and their backgrounds a little.
    hot : ndarray of bool, shape (H, W)
        Hot pixels (`hot_pixels`), which are ignored.
    settings : CrSplitBlock

    Returns
    -------
    list of RepeatLabel
        Of each exposure.

    Raises
    ------
    DataError
        If there is only one, or they differ in shape.
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
    near = np.stack([ndimage.binary_dilation(one.hit, TOUCHING) for one in compared]) & usable
    labels = []
    for index, (exposure, one) in enumerate(zip(exposures, compared, strict=True)):
        others = usable.sum(axis=0) - usable[index]
        spoils = others if settings.reference == "minimum" else (others + 1) // 2  # so many hits make what is expected wrong
        useless = ~exposure.usable | hot | (others == 0)
        hidden = one.raised & ~one.hit & (near.sum(axis=0) - near[index] >= spoils) & ~useless
        labels.append(RepeatLabel(one.hit & ~useless, useless | hidden, hidden, one.expected))
    return labels


def grown(strong: Mask, weak: Mask, pixels: int) -> Mask:
    """What a first pass has found, and what a second one would take so many pixels around it.

    Parameters
    ----------
    strong, weak : ndarray of bool, shape (H, W)
        Above the threshold of the first pass, and of the second.
    pixels : int
    """
    return np.asarray(strong | (weak & ndimage.binary_dilation(strong, TOUCHING, iterations=pixels)))


@dataclass(frozen=True, eq=False)
class _Compared:
    """Pixels of an exposure that exceed the others (`hit`), and that exceed the sky around them (`raised`)."""

    hit: Mask
    raised: Mask
    expected: Image


def _compare(exposure: RepeatedExposure, others: Sequence[RepeatedExposure], settings: CrSplitBlock) -> _Compared:
    expected = _expected(exposure, others, settings)
    lower = np.minimum(exposure.image, expected)
    sky = ndimage.median_filter(lower, _NEIGHBOURHOOD)
    slope = _steepest(sky)
    level = np.maximum(np.maximum(lower, sky), 0)  # the lower one has the Poisson noise of a warm pixel, its median not
    # what is expected counts as noisy as one scaled exposure: the median of several is less, the minimum is biased
    ratios = np.array([exposure.exposure_time_s / other.exposure_time_s for other in others])
    read_noise = np.array([other.read_noise_electron for other in others])
    noise_squared = exposure.read_noise_electron**2 + np.mean((ratios * read_noise) ** 2)
    sigma = np.sqrt(noise_squared + (1 + ratios.mean()) * level)
    excess = exposure.image - expected
    strong, weak = (excess > snr * sigma + scale * slope for snr, scale in _passes(settings))
    (_, (snr, scale)) = _passes(settings)
    raised = exposure.image - sky > snr * exposure.noise(level) + scale * slope
    return _Compared(grown(strong, weak, settings.grow), raised, expected.astype(np.float32))


def _expected(exposure: RepeatedExposure, others: Sequence[RepeatedExposure], settings: CrSplitBlock) -> Image:
    """What the others would have an exposure see."""
    scaled = []
    for other in others:
        image = other.image * np.float32(exposure.exposure_time_s / other.exposure_time_s)
        # cosmic rays of the two cancel in the median: what is left is background, and drifts of a bright source
        scaled.append(image + ndimage.median_filter(exposure.image - image, settings.offset_box))
    if len(others) == 1:
        return np.asarray(scaled[0])
    usable = np.stack([other.usable for other in others])
    seen = usable.any(axis=0)
    stack = np.where(usable | ~seen, np.stack(scaled), np.float32(np.nan))  # what nobody has seen is ignored anyway
    reduce = np.nanmin if settings.reference == "minimum" else np.nanmedian
    expected: Image = reduce(stack, axis=0)
    return expected


def _passes(settings: CrSplitBlock) -> Sequence[tuple[float, float]]:
    """Sigma and slope of the first and of the second pass."""
    return list(zip(settings.snr, settings.gradient, strict=True))


def _steepest(sky: Image) -> Image:
    """Largest difference to one of the four neighbours (the derivative of AstroDrizzle's driz_cr)."""
    padded = np.pad(sky, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.max([np.abs(sky - one) for one in neighbours], axis=0))


def _check_shapes(exposures: Sequence[RepeatedExposure]) -> None:
    shapes = sorted({exposure.image.shape for exposure in exposures})
    if len(shapes) > 1:
        raise DataError(
            f"exposures have the shapes {', '.join(map(str, shapes))}: expected one, repeats are on the same pixels"
        )
