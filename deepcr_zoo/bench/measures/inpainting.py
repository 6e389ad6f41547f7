"""How well masked pixels are filled: pixels without a cosmic ray are hidden, filled, and compared with what they were.

As in Zhang & Bloom 2020, section 3.2 and Table 3: test stamps are drawn with replacement, and the pixels that are hidden are
those of the cosmic rays of another stamp, so that they have the shapes of cosmic rays. The stamp's own cosmic rays are
hidden too, but nobody knows what is under them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.blocks import SkyBlocks, key
from deepcr_zoo.bench.measures.bootstrap import interval
from deepcr_zoo.bench.measures.judged import OnExposure, judged_stamps
from deepcr_zoo.bench.results import Interval
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import DataError, InvalidImageError
from deepcr_zoo.zoo.recipe import FieldType

Sums = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Filled minus true value, summed over the pixels of each block of sky.

    Attributes
    ----------
    pixels : ndarray of int64, shape (B,)
        How many.
    squared : ndarray of float64, shape (B,)
        Sum of the squares, e-^2.
    absolute, signed : ndarray of float64, shape (B,)
        Sum of the absolute values and of the values, e-.
    """

    pixels: NDArray[np.int64]
    squared: Sums
    absolute: Sums
    signed: Sums

    @classmethod
    def none(cls, blocks: int) -> ErrorSums:
        """Over nothing."""
        return cls(np.zeros(blocks, np.int64), *np.zeros((3, blocks)))

    @classmethod
    def of(cls, filled: NDArray[np.float32], true: NDArray[np.float32], block: NDArray[np.intp], blocks: int) -> ErrorSums:
        """Sums over pixels, in float64.

        Parameters
        ----------
        filled, true : ndarray of float32, shape (K,)
            e-.
        block : ndarray of int, shape (K,)
            Of each pixel.
        blocks : int
            How many there are.

        Raises
        ------
        InvalidImageError
            If a value is NaN or infinite.
        """
        error = filled.astype(np.float64) - true
        if not np.isfinite(error).all():
            raise InvalidImageError("a pixel was filled with NaN or infinity: expected a number")

        def summed(values: Sums) -> Sums:
            return np.bincount(block, values, blocks).astype(np.float64)  # of no pixel at all they are integers

        pixels = np.bincount(block, minlength=blocks).astype(np.int64)
        return cls(pixels, summed(error**2), summed(np.abs(error)), summed(error))

    @classmethod
    def joined(cls, parts: Iterable[ErrorSums]) -> ErrorSums:
        """The blocks of several field types, one after the other."""
        sums = list(parts)
        return cls(
            np.concatenate([one.pixels for one in sums]),
            np.concatenate([one.squared for one in sums]),
            np.concatenate([one.absolute for one in sums]),
            np.concatenate([one.signed for one in sums]),
        )

    def __add__(self, other: ErrorSums) -> ErrorSums:
        """Of the same blocks."""
        return ErrorSums(
            self.pixels + other.pixels,
            self.squared + other.squared,
            self.absolute + other.absolute,
            self.signed + other.signed,
        )

    def mse(self, weights: Sums | None = None) -> Sums:
        """Mean squared error of each resampling, e-^2, shape (R,); NaN where it holds no pixel.

        Parameters
        ----------
        weights : ndarray of float64, shape (R, B), optional
            How often each block counts (`bootstrap.resample`); by default all count once, and R is 1.
        """
        times = np.ones((1, len(self.pixels))) if weights is None else weights
        squared, pixels = times @ self.squared, times @ self.pixels
        return np.divide(squared, pixels, out=np.full_like(squared, np.nan), where=pixels > 0)


def mse_ratios(sums: ErrorSums, against: ErrorSums, weights: Sums | None = None) -> Sums:
    """MSE of a method / that of another on the same pixels, of each resampling, shape (R,); NaN where there is none.

    Parameters
    ----------
    sums, against : ErrorSums
        Of the same blocks.
    weights : ndarray of float64, shape (R, B), optional
        As for `ErrorSums.mse`: the same for both, so that the ratio varies less than the errors do.
    """
    one, other = sums.mse(weights), against.mse(weights)
    return np.divide(one, other, out=np.full_like(one, np.nan), where=other > 0)


MASKS_PER_STAMP = 1
"""Of other stamps; Zhang & Bloom 2020, Table 3."""

AT_ONCE = 64
"""Stamps that are filled at a time: what is in memory does not grow with the draws."""

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
Numbers = NDArray[np.intp]
Fill = Callable[[Images, Masks], Images]
"""Gives the images, shape (N, S, S), with new values where the masks are set: `InpaintModel.fill`, `baselines.medmask`."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Stamps to fill, each with another one's cosmic rays; a stamp may come several times, each time with a mask of its own.

    Attributes
    ----------
    stamps, others : ndarray of int, shape (D,)
        Numbers of the stamps, ascending, and of those whose CR masks are added to them.
    """

    stamps: Numbers
    others: Numbers

    def within(self, numbers: range) -> Draws:
        """Those of some stamps that follow each other."""
        part = slice(*np.searchsorted(self.stamps, [numbers.start, numbers.stop]))
        return Draws(self.stamps[part], self.others[part])

    def batches(self, size: int = AT_ONCE) -> Iterator[Draws]:
        """A few at a time."""
        for first in range(0, len(self.stamps), size):
            yield Draws(self.stamps[first : first + size], self.others[first : first + size])


def draw(stamps: int, count: int, seed: int) -> Draws:
    """Draw stamps with replacement, and for each draw another stamp.

    Parameters
    ----------
    stamps : int
        How many there are.
    count : int
        How many are drawn.
    seed : int

    Raises
    ------
    DataError
        If there is no other stamp.
    """
    if stamps < 2:
        raise DataError(
            f"{stamps} stamps are too few to take inpainting masks from: expected at least 2, because each gets another's"
        )
    random = np.random.default_rng(seed)
    numbers = np.sort(random.integers(stamps, size=count))
    steps = random.integers(1, stamps, size=count)  # a step of 1 to n - 1 leads to any stamp but the same
    return Draws(numbers, (numbers + steps) % stamps)


@dataclass(frozen=True, eq=False)
class HiddenPixels:
    """Stamps with pixels that methods do not see.

    Attributes
    ----------
    image : ndarray of float32, shape (N, S, S)
        As it is, e-.
    hidden, judged : ndarray of bool, shape (N, S, S)
        What methods fill, and what of it they are judged on.
    """

    image: Images
    hidden: Masks
    judged: Masks

    @classmethod
    def of(cls, image: Images, added: Masks, cosmic_rays: Masks, ignore: Masks) -> HiddenPixels:
        """Hide an added mask and the stamps' own cosmic rays: under these nobody knows the truth."""
        return cls(image, added | cosmic_rays, added & ~cosmic_rays & ~ignore)

    def errors(self, fill: Fill, block: Numbers, blocks: int) -> ErrorSums:
        """Let a method fill them; `block` is that of each stamp, shape (N,), of so many `blocks`."""
        filled = fill(self.image, self.hidden)
        of_pixels = np.repeat(block, np.count_nonzero(self.judged, axis=(1, 2)))
        return ErrorSums.of(filled[self.judged], self.image[self.judged], of_pixels, blocks)


def judge(
    fills: Mapping[str, Fill],
    dataset: Dataset,
    field_type: FieldType,
    blocks: SkyBlocks,
    draws: Draws,
    on_exposure: OnExposure | None = None,
) -> dict[str, ErrorSums]:
    """Let several methods fill the same pixels of the test stamps of a field type.

    Parameters
    ----------
    fills : mapping of str to callable
        Methods, by name.
    dataset : Dataset
    field_type : FieldType
        One without test stamps gives sums over nothing.
    blocks : SkyBlocks
        Of that field type.
    draws : Draws
        Of all test stamps, in the order of `Dataset.stamps`; those of other field types are left to them.
    on_exposure : callable, optional
        Called after each exposure.

    Returns
    -------
    dict of str to ErrorSums
        By block of sky, over the pixels of the added masks that are no cosmic ray of the stamp itself and not ignored.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If a method fills a pixel with NaN or infinity.
    """
    sources = dataset.stamps("test")
    sums = dict.fromkeys(fills, ErrorSums.none(blocks.count))
    for stamps in judged_stamps(dataset, field_type, on_exposure=on_exposure):
        of_stamps = blocks.of_stamps[key(stamps.group)]
        for drawn in draws.within(stamps.numbers).batches():
            here = drawn.stamps - stamps.numbers.start
            added = np.stack([sources[other].cosmic_rays for other in drawn.others.tolist()]).astype(bool)
            hidden = HiddenPixels.of(stamps.image[here], added, stamps.cosmic_rays[here], stamps.ignore[here])
            for name, fill in fills.items():
                sums[name] += hidden.errors(fill, of_stamps[here], blocks.count)
    return sums


def mse_ratio(sums: ErrorSums, against: ErrorSums, weights: NDArray[np.float64]) -> tuple[float | None, Interval | None]:
    """MSE of a method / that of another, and where it lies.

    Parameters
    ----------
    sums, against : ErrorSums
        Of the same pixels.
    weights : ndarray of float64, shape (R, B)
        Of `bootstrap.resample`; the same for both methods.

    Returns
    -------
    ratio : float or None
        None where there is no pixel, or the other method makes no error.
    interval : Interval or None
        From the blocks that hold pixels; None of too few.
    """
    (ratio,) = mse_ratios(sums, against)
    between = interval(mse_ratios(sums, against, weights), int(np.count_nonzero(sums.pixels)))
    return (float(ratio), between) if np.isfinite(ratio) else (None, None)
