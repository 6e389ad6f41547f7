"""How a figure differs between seeds or observations, each judged alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Mean of some values, its standard error (standard deviation with n - 1 / square root of n), and the values."""

    mean: float
    standard_error: float
    values: list[float]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the mean and its standard error; None for fewer than two values, or where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < max(2, len(values)):
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) / len(known) ** 0.5, known)
