"""Which exposures of a visit are out of line: in background, in their rate of cosmic rays, in alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray
from scipy import fft, ndimage, stats

STAR_SIGMA = 10.0
"""Pixels of the visit's median that stand so far out of the background are on stars (or the cores of galaxies)."""

DARK_SHARE = 0.25
"""The darkest pixels, which are compared with those on stars: in a crowded field hardly any other is free of them."""

CHANCE = 0.01
"""Chance at which more masked pixels on stars than are allowed are still taken for chance: few stars prove nothing."""

_BACKGROUND_STEP, _BACKGROUND_SIZE, _BACKGROUND_PERCENTILE = 4, 9, 30


@dataclass(frozen=True)
class MaskCount:
    """Masked pixels of an exposure, or of a chip: counts that can be added.

    Attributes
    ----------
    masked, pixels : int
        Of all that are not ignored.
    groups : int
        Groups of touching masked pixels: cosmic rays.
    masked_on_stars, on_stars : int
        Of those, the ones on stars.
    masked_in_dark, in_dark : int
        And those where the sky is darkest.
    """

    masked: int = 0
    pixels: int = 0
    groups: int = 0
    masked_on_stars: int = 0
    on_stars: int = 0
    masked_in_dark: int = 0
    in_dark: int = 0

    def __add__(self, other: MaskCount) -> MaskCount:
        mine, theirs = vars(self), vars(other)
        return MaskCount(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def fraction(self) -> float:
        """Share of masked pixels."""
        return self.masked / self.pixels if self.pixels else 0.0

    @property
    def star_excess(self) -> float | None:
        """Share of masked pixels on stars / that in the dark; None where one of the two is not to be had."""
        if not self.on_stars or not self.masked_in_dark:
            return None
        return self.masked_on_stars / self.on_stars / (self.masked_in_dark / self.in_dark)

    def exceeds(self, max_star_excess: float) -> bool:
        """Whether masks cluster on stars by more than chance would have them exceed the limit."""
        excess, chance = self.star_excess, self.chance(max_star_excess)
        return excess is not None and chance is not None and excess > max_star_excess and chance < CHANCE

    def chance(self, max_star_excess: float) -> float | None:
        """How likely so many masked pixels on stars are, if masks are as frequent there as the limit allows.

        Masked pixels come in groups; the number of groups on stars is compared with a Poisson distribution. None where
        there is no `star_excess`.
        """
        if self.star_excess is None:
            return None
        per_group = self.masked / self.groups
        allowed = max_star_excess * self.masked_in_dark / self.in_dark * self.on_stars
        return float(stats.poisson.sf(self.masked_on_stars / per_group - 1, allowed / per_group))


def count_masked(
    cosmic_rays: NDArray[np.bool_], ignored: NDArray[np.bool_], blotted: NDArray[np.float32], read_noise_electron: float
) -> MaskCount:
    """Count the masked pixels of a chip, on stars and off.

    Aligned exposures have fewer masked pixels on stars than elsewhere, because AstroDrizzle is lenient where the image is
    steep. In misaligned ones every star is masked in part.

    Parameters
    ----------
    cosmic_rays, ignored : ndarray of bool, shape (H, W)
    blotted : ndarray of float32, shape (H, W)
        The visit's median, e-.
    read_noise_electron : float
    """
    counted = ~ignored
    masked = cosmic_rays & counted
    noise = np.sqrt(np.maximum(blotted, 0) + read_noise_electron**2)
    stars = counted & (blotted > _background(blotted) + STAR_SIGMA * noise)
    dark = counted & (blotted < np.quantile(blotted[counted], DARK_SHARE)) if counted.any() else counted
    return MaskCount(
        masked=int(masked.sum()),
        pixels=int(counted.sum()),
        groups=int(ndimage.label(masked, np.ones((3, 3)))[1]),
        masked_on_stars=int((masked & stars).sum()),
        on_stars=int(stars.sum()),
        masked_in_dark=int((masked & dark).sum()),
        in_dark=int(dark.sum()),
    )


def usual(values: Sequence[float], others: Sequence[float] = ()) -> list[float]:
    """What is usual in the visit, for each value: the median, or of two exposures the other one.

    Parameters
    ----------
    values : sequence of float
    others : sequence of float
        Of other exposures of the same target: where there are any, the median of all is usual.
    """
    if len(values) == 2 and not others:
        return list(values[::-1])
    return [float(np.median([*values, *others]))] * len(values)


def ratios(values: Sequence[float], others: Sequence[float] = ()) -> list[float]:
    """Each value's ratio to what is `usual`; infinite where that is not positive."""
    references = usual(values, others)
    return [value / reference if reference > 0 else math.inf for value, reference in zip(values, references, strict=True)]


def worst(found: Sequence[float], max_ratio: float) -> int | None:
    """Index of the ratio that is farthest out of line, by whatever factor; None if none is by more than `max_ratio`."""
    factors = [max(ratio, 1 / ratio) if ratio > 0 else math.inf for ratio in found]
    index = int(np.argmax(factors))
    return index if factors[index] > max_ratio else None


def _background(blotted: NDArray[np.float32]) -> NDArray[np.float32]:
    """A smooth lower envelope: a low percentile of what is around, on every fourth pixel."""
    coarse = blotted[::_BACKGROUND_STEP, ::_BACKGROUND_STEP]
    low = ndimage.percentile_filter(coarse, _BACKGROUND_PERCENTILE, size=_BACKGROUND_SIZE)
    whole = low.repeat(_BACKGROUND_STEP, axis=0).repeat(_BACKGROUND_STEP, axis=1)
    return np.asarray(whole[: blotted.shape[0], : blotted.shape[1]])


REACH = 4
"""Offsets up to so many pixels are found."""

_SMOOTH = 1.0
_BACKGROUND = 8.0


def offsets(images: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """How far each image lies from the others: from the median position of all.

    The peak of the cross-correlation with the first image, interpolated by a parabola. Cosmic rays differ from image to
    image and do not correlate; the brightest pixels are clipped, so that no single star decides.

    Parameters
    ----------
    images : sequence of ndarray of float32, shape (H, W)
        On one grid; zero or NaN where there is no value.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Rows and columns, pixels.
    """
    transforms = [fft.rfft2(_stars(image)) for image in images]
    shape = images[0].shape
    places = np.array([_peak(fft.irfft2(one * np.conj(transforms[0]), shape)) for one in transforms])
    return np.asarray(places - np.median(places, axis=0))


def _stars(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What stands out of the background, clipped; zero where there is no value."""
    empty = ~np.isfinite(image) | (image == 0)
    filled = np.where(empty, np.median(image[~empty]) if not empty.all() else 0, image)
    sharp = ndimage.gaussian_filter(filled, _SMOOTH) - ndimage.gaussian_filter(filled, _BACKGROUND)
    limit = np.percentile(np.abs(sharp), 99)
    # residual edges of what is empty must not correlate
    near_empty = ndimage.binary_dilation(empty, iterations=3)
    return np.where(near_empty, 0, np.clip(sharp, -limit, limit)).astype(np.float32)


def _peak(correlation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row and column of the maximum within `REACH` of no offset."""
    side = 2 * REACH + 1
    middle = np.roll(correlation, (REACH + 1, REACH + 1), axis=(0, 1))[: side + 2, : side + 2]
    row, column = (int(place) + 1 for place in np.unravel_index(np.argmax(middle[1:-1, 1:-1]), (side, side)))
    top = middle[row, column]
    return np.array(
        [
            row - REACH - 1 + _vertex(middle[row - 1, column], top, middle[row + 1, column]),
            column - REACH - 1 + _vertex(middle[row, column - 1], top, middle[row, column + 1]),
        ]
    )


def _vertex(before: float, top: float, after: float) -> float:
    """Where the parabola through three values at -1, 0 and 1 is highest."""
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


Source = Literal["mdrizsky", "measured"]

SAMPLE = 1_000_000
"""Pixels that a level is measured on: its error is then 0.001 of the noise."""


@dataclass(frozen=True)
class SkyLevel:
    """A sky level.

    Attributes
    ----------
    electron : float
    source : {'mdrizsky', 'measured'}
        AstroDrizzle's own, which it writes into MDRIZSKY, or `measure`.
    """

    electron: float
    source: Source


def sky_level(wanted: Source, mdrizsky: Sequence[float | None], measured: float) -> SkyLevel:
    """The sky level of an exposure: the mean MDRIZSKY of its chips if that is wanted and there, else as measured.

    Parameters
    ----------
    wanted : {'mdrizsky', 'measured'}
    mdrizsky : sequence of float or None
        Of each chip, e-; None where the keyword is absent. Zero counts as absent.
    measured : float
        What `measure` gives.
    """
    levels = [level for level in mdrizsky if level is not None]
    if wanted == "mdrizsky" and len(levels) == len(mdrizsky) and all(map(math.isfinite, levels)) and any(levels):
        return SkyLevel(float(np.mean(levels)), "mdrizsky")
    return SkyLevel(measured, "measured")


def measure(images: Sequence[NDArray[np.float32]], ignored: Sequence[NDArray[np.bool_]]) -> float:
    """The median of the pixels that are not ignored, clipped at 3 sigma until nothing changes, e-."""
    pixels = np.concatenate([image[~left_out] for image, left_out in zip(images, ignored, strict=True)])
    if not pixels.size:
        return math.nan
    step = -(-pixels.size // SAMPLE)
    clipped = sigma_clip(pixels[::step], sigma=3, maxiters=10, masked=False)
    return float(np.median(clipped))
