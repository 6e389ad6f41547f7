"""What filled pixels differ from the true ones by, in sums that can be added up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidImageError

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
