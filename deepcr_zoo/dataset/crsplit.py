"""Labels from repeated exposures of one pointing (CR-SPLIT): a cosmic ray is what one has and its partner has not.

The two-pass test of AstroDrizzle's driz_cr (DrizzlePac Handbook), with the partner in place of the median image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import DataError
from deepcr_zoo.frames import Chip, read_exposure
from deepcr_zoo.instruments import Instrument

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TOUCHING = np.ones((3, 3), dtype=bool)
_NEIGHBOURHOOD = 5  # side of the medians that stand for the sky of a pixel


@dataclass(frozen=True, eq=False)
class RepeatedExposure:
    """One of several exposures of the same pointing, on the same detector pixels.

    Attributes
    ----------
    image : ndarray of float32, shape (H, W)
        e-, bias subtracted, dark current and sky as they were recorded.
    usable : ndarray of bool, shape (H, W)
        False in the overscan and where saturated or without a value.
    exposure_time_s : float
    read_noise_electron : float
    area_cm2 : float or None
        Of the detector, as far as it sees light.
    """

    image: Image
    usable: Mask
    exposure_time_s: float
    read_noise_electron: float
    area_cm2: float | None = None


@dataclass(frozen=True)
class PairTest:
    """Thresholds of the test.

    Attributes
    ----------
    snr : tuple of float
        In sigma of the difference: to find a cosmic ray, and next to one that was found.
    gradient : tuple of float
        The same two, as multiples of the steepest slope to a neighbouring pixel: the sky of the two exposures may differ by
        so much where it is steep. AstroDrizzle's ``driz_cr_scale``.
    offset_box : int
        Side in pixels of the box whose median difference is what the background of the two differs by.
    hot_snr : float
        A pixel that most exposures have above its surroundings, by so many sigma, is hot.
    """

    snr: tuple[float, float] = (5.0, 3.0)
    gradient: tuple[float, float] = (1.2, 0.7)
    offset_box: int = 15
    hot_snr: float = 5.0


@dataclass(frozen=True, eq=False)
class PairLabel:
    """What the partner tells of an exposure.

    Attributes
    ----------
    cosmic_rays : ndarray of bool, shape (H, W)
        CR mask; False where ignored.
    ignore : ndarray of bool, shape (H, W)
        Ignore mask: not usable in either, hot, or not to be told because a cosmic ray of the partner may cover one of this.
    both_hit : ndarray of bool, shape (H, W)
        The last of these alone.
    """

    cosmic_rays: Mask
    ignore: Mask
    both_hit: Mask

    def rate(self, exposure: RepeatedExposure) -> float | None:
        """Groups of touching labelled pixels per cm2 and second, of what is not ignored; None if the area is not known."""
        seen = np.count_nonzero(~self.ignore) / max(1, int(np.count_nonzero(exposure.usable)))
        if exposure.area_cm2 is None or not seen:
            return None
        groups = ndimage.label(self.cosmic_rays, _TOUCHING)[1]
        return float(groups / (exposure.area_cm2 * seen * exposure.exposure_time_s))


def read_pair(path: Path) -> tuple[RepeatedExposure, RepeatedExposure]:
    """Read a raw file that holds two exposures as two SCI extensions.

    Raises
    ------
    InvalidFileError
        If the file cannot be read, or its counts cannot be turned into electrons.
    DataError
        If it holds no pair of raw exposures.
    """
    exposure = read_exposure(path)
    if len(exposure.chips) != 2 or len({chip.pixels.shape for chip in exposure.chips}) != 1:
        raise DataError(f"{path}: holds {len(exposure.chips)} images: expected the two exposures of a CR-SPLIT, of one size")
    first, second = (_repeated(chip, exposure.instrument) for chip in exposure.chips)
    return first, second


def hot_pixels(exposures: Sequence[RepeatedExposure], test: PairTest) -> Mask:
    """Pixels that stand above the 5x5 median around them in most exposures, which cosmic rays do not, shape (H, W).

    Give exposures of several pointings: with two alone, a pixel that a cosmic ray has hit in both may pass for a hot one.
    """
    significances = []
    for exposure in exposures:
        around = ndimage.median_filter(exposure.image, _NEIGHBOURHOOD)
        noise = np.sqrt(exposure.read_noise_electron**2 + np.maximum(around, 0))
        significances.append((exposure.image - around) / noise)
    return np.asarray(np.median(significances, axis=0) > test.hot_snr)


def label_pair(first: RepeatedExposure, second: RepeatedExposure, hot: Mask, test: PairTest) -> tuple[PairLabel, PairLabel]:
    """Label the cosmic rays of both exposures by each other.

    Parameters
    ----------
    first, second : RepeatedExposure
        Their exposure times may differ, and their backgrounds a little.
    hot : ndarray of bool, shape (H, W)
        Hot pixels (`hot_pixels`), which are ignored.
    test : PairTest

    Returns
    -------
    PairLabel, PairLabel
        Of the first and of the second.

    Raises
    ------
    DataError
        If the exposures differ in shape.
    """
    if not first.image.shape == second.image.shape == hot.shape:
        shapes = f"{first.image.shape}, {second.image.shape} and {hot.shape}"
        raise DataError(f"exposures and hot pixels have the shapes {shapes}: expected those of one detector")
    useless = ~first.usable | ~second.usable | hot
    one, other = _Comparison.of(first, second, test), _Comparison.of(second, first, test)
    return one.label(other.hit, useless), other.label(one.hit, useless)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Pixels of an exposure that exceed the partner (`hit`), and those that exceed the sky around them (`raised`)."""

    hit: Mask
    raised: Mask

    @classmethod
    def of(cls, exposure: RepeatedExposure, partner: RepeatedExposure, test: PairTest) -> _Comparison:
        ratio = exposure.exposure_time_s / partner.exposure_time_s
        expected = partner.image * np.float32(ratio)
        # cosmic rays of the two cancel in the median: what is left is background, and drifts of a bright source
        expected += ndimage.median_filter(exposure.image - expected, test.offset_box)
        lower = np.minimum(exposure.image, expected)
        sky = ndimage.median_filter(lower, _NEIGHBOURHOOD)
        slope = _steepest(sky)
        level = np.maximum(np.maximum(lower, sky), 0)  # the lower one has the Poisson noise of a warm pixel, its median not
        variance = exposure.read_noise_electron**2 + ratio**2 * partner.read_noise_electron**2 + (1 + ratio) * level
        sigma = np.sqrt(variance)
        excess = exposure.image - expected
        strong, weak = (excess > snr * sigma + scale * slope for snr, scale in zip(test.snr, test.gradient, strict=True))
        raised = (
            exposure.image - sky > test.snr[1] * np.sqrt(exposure.read_noise_electron**2 + level) + test.gradient[1] * slope
        )
        return cls(strong | (weak & ndimage.binary_dilation(strong, _TOUCHING)), raised)

    def label(self, hit_partner: Mask, useless: Mask) -> PairLabel:
        """A raised pixel near a hit of the partner may be a cosmic ray that the partner hides."""
        hidden = self.raised & ~self.hit & ndimage.binary_dilation(hit_partner, _TOUCHING) & ~useless
        ignore = useless | hidden
        return PairLabel(self.hit & ~ignore, ignore, hidden)


def _steepest(sky: Image) -> Image:
    """Largest difference to one of the four neighbours (the derivative of AstroDrizzle's driz_cr)."""
    padded = np.pad(sky, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.max([np.abs(sky - one) for one in neighbours], axis=0))


def _repeated(chip: Chip, instrument: Instrument | None) -> RepeatedExposure:
    if chip.image_area is None or chip.exposure_time_s is None or instrument is None or instrument.saturation is None:
        raise DataError(
            f"{chip.where}: is no raw exposure with an overscan, an exposure time and a known level of saturation: "
            "expected one, as the read noise is measured on the overscan"
        )
    image = np.ma.getdata(chip.in_unit("electron"))
    finite = np.isfinite(image)
    usable = chip.image_area & finite & (image <= instrument.saturation.level_electron)
    noise = _read_noise(np.where(finite, image, 0), chip.image_area)
    return RepeatedExposure(np.where(finite, image, 0), usable, chip.exposure_time_s, noise, chip.area_cm2)


def _read_noise(image: Image, area: Mask) -> float:
    """Standard deviation, clipped at 3 sigma, of the columns that are read before the lit ones."""
    first_lit = int(np.flatnonzero(area.any(axis=0))[0])
    overscan = image[area.any(axis=1), 1 : max(2, first_lit - 2)]
    return float(np.std(sigma_clip(overscan, sigma=3, masked=False)))
