"""What every way of labelling gives, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset.exposures import ChipPixels


@dataclass(frozen=True, eq=False)
class LabelledExposure:
    """All chips of an exposure with their labels, in the order of EXTVER.

    Attributes
    ----------
    chips : list of ChipPixels
    cosmic_rays, ignored : list of ndarray of bool, shape (H, W)
        CR masks and ignore masks.
    expected : list of ndarray of float32, shape (H, W)
        What the other exposures would have this one see, e-, sky included.
    """

    chips: list[ChipPixels]
    cosmic_rays: list[NDArray[np.bool_]]
    ignored: list[NDArray[np.bool_]]
    expected: list[NDArray[np.float32]]


class Labelling(Protocol):
    """The labels of a visit's exposures, by their number."""

    software: str
    largest_dither_arcsec: float

    def labelled(self, index: int) -> LabelledExposure:
        """An exposure with its labels."""

    def aligned(self, index: int) -> NDArray[np.float32]:
        """An exposure on the grid of the visit, zero where it has seen nothing, shape (H, W)."""

    def fit_rms_pixels(self, index: int) -> float | None:
        """How well it was aligned; None if nobody has aligned it."""


class VisitRejectedError(Exception):
    """A visit cannot be labelled, now or ever; its text says why."""
