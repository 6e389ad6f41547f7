"""Which exposures of a visit are out of line: in background, in their rate of cosmic rays, in alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

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
