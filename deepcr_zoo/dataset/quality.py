"""The quality gate: ratios of an exposure to its visit, and masks that cluster on stars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from deepcr_zoo.models.images import groups

STAR_SIGMA = 10.0  # pixels of the visit's median this far above the background count as stars (or cores of galaxies)
DARK_SHARE = 0.25  # of the pixels, the darkest, are compared with those on stars; in a crowded field few others are free
CHANCE = 0.01  # what is at least this likely is accepted: a few stars or cosmic rays prove nothing

# the background is a low percentile of a neighbourhood, computed on every fourth pixel
_BACKGROUND_STEP, _BACKGROUND_SIZE, _BACKGROUND_PERCENTILE = 4, 9, 30


@dataclass(frozen=True)
class Outlier:
    """An exposure that differs from the others of its visit, and why it is rejected."""

    index: int
    reason: str


@dataclass(frozen=True)
class MaskCount:
    """Counts of masked pixels of an exposure or a chip; they can be added. Ignored pixels are not counted."""

    masked: int = 0
    pixels: int = 0
    groups: int = 0  # of touching masked pixels: cosmic rays
    masked_on_stars: int = 0
    on_stars: int = 0
    masked_in_dark: int = 0  # among the darkest pixels
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
        """Share of masked pixels on stars / share in the dark; None if either is undefined."""
        if not self.on_stars or not self.masked_in_dark:
            return None
        return self.masked_on_stars / self.on_stars / (self.masked_in_dark / self.in_dark)

    def exceeds(self, max_star_excess: float) -> bool:
        """Return True if masks cluster on stars beyond the limit, and chance does not explain it."""
        excess, chance = self.star_excess, self.chance(max_star_excess)
        return excess is not None and chance is not None and excess > max_star_excess and chance < CHANCE

    def chance(self, max_star_excess: float) -> float | None:
        """Return the probability of this many masked pixels on stars if their true excess is at the limit.

        Masked pixels come in groups; the number of groups on stars is compared with a Poisson distribution. None if there
        is no `star_excess`.
        """
        if self.star_excess is None:
            return None
        per_group = self.masked / self.groups
        allowed = max_star_excess * self.masked_in_dark / self.in_dark * self.on_stars
        fewer = math.floor(self.masked_on_stars / per_group - 1)
        return 1.0 if fewer < 0 else float(special.pdtrc(fewer, allowed / per_group))


def count_masked(
    cosmic_rays: NDArray[np.bool_], ignored: NDArray[np.bool_], expected: NDArray[np.float32], read_noise_electron: float
) -> MaskCount:
    """Count the masked pixels of a chip, on stars and off; arrays are (H, W), `expected` has no cosmic rays (e-).

    Aligned exposures have fewer masked pixels on stars than elsewhere, because AstroDrizzle is lenient where the image is
    steep. In misaligned ones every star is masked in part.
    """
    counted = ~ignored
    masked = cosmic_rays & counted
    noise = np.sqrt(np.maximum(expected, 0) + read_noise_electron**2)
    stars = counted & (expected > _background(expected) + STAR_SIGMA * noise)
    dark = counted & (expected < np.quantile(expected[counted], DARK_SHARE)) if counted.any() else counted
    return MaskCount(
        masked=int(masked.sum()),
        pixels=int(counted.sum()),
        groups=groups(masked)[1],
        masked_on_stars=int((masked & stars).sum()),
        on_stars=int(stars.sum()),
        masked_in_dark=int((masked & dark).sum()),
        in_dark=int(dark.sum()),
    )


def typical_values(values: Sequence[float], others: Sequence[float] = ()) -> list[float]:
    """Return the reference for each value: the median, or the other one of two.

    `others` are values of further exposures of the same target; if there are any, the median of all is the reference.
    """
    if len(values) == 2 and not others:
        return list(values[::-1])
    return [float(np.median([*values, *others]))] * len(values)


def ratios_to_typical(values: Sequence[float], others: Sequence[float] = ()) -> list[float]:
    """Return each value's ratio to its `typical_values`; infinite where that is not positive."""
    references = typical_values(values, others)
    return [value / reference if reference > 0 else math.inf for value, reference in zip(values, references, strict=True)]


def chance_of_count(groups: int, usual: float) -> float | None:
    """Return the probability of a count at least as far from the usual one, in the same direction; None if that is zero."""
    if usual <= 0:
        return None
    return float(special.pdtr(groups, usual)) if groups < usual else float(special.pdtrc(groups - 1, usual))


def beyond_chance(ratio: float, chance: float | None) -> float:
    """Return a ratio of rates, or 1 where chance explains it; it counts where no chance is known."""
    return 1.0 if chance is not None and chance >= CHANCE else ratio


def find_worst(ratios: Sequence[float], max_ratio: float) -> int | None:
    """Return the index of the ratio farthest from 1, in either direction; None if all are within `max_ratio`."""
    factors = [max(ratio, 1 / ratio) if ratio > 0 else math.inf for ratio in ratios]
    index = int(np.argmax(factors))
    return index if factors[index] > max_ratio else None


def _background(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a smooth lower envelope of an image."""
    coarse = image[::_BACKGROUND_STEP, ::_BACKGROUND_STEP]
    low = ndimage.percentile_filter(coarse, _BACKGROUND_PERCENTILE, size=_BACKGROUND_SIZE)
    whole = low.repeat(_BACKGROUND_STEP, axis=0).repeat(_BACKGROUND_STEP, axis=1)
    return np.asarray(whole[: image.shape[0], : image.shape[1]])
