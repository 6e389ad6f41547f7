"""What filled pixels differ from the true ones by, in sums that can be added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidImageError


@dataclass(frozen=True)
class ErrorSums:
    """Filled minus true value, summed over pixels; sums of several images add up to those of all of them together.

    Attributes
    ----------
    pixels : int
        How many.
    squared : float
        Sum of the squares, e-^2.
    absolute, signed : float
        Sum of the absolute values and of the values, e-.
    """

    pixels: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    signed: float = 0.0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.pixels + other.pixels,
            self.squared + other.squared,
            self.absolute + other.absolute,
            self.signed + other.signed,
        )

    @classmethod
    def of(cls, filled: NDArray[np.float32], true: NDArray[np.float32]) -> ErrorSums:
        """Sums over all pixels of two arrays, in float64.

        Raises
        ------
        InvalidImageError
            If a value is NaN or infinite.
        """
        error = filled.astype(np.float64) - true
        if not np.isfinite(error).all():
            raise InvalidImageError("a pixel was filled with NaN or infinity: expected a number")
        return cls(error.size, float(np.sum(error**2)), float(np.sum(np.abs(error))), float(np.sum(error)))
