"""What every way of labelling gives, and how it says no."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo.dataset import footprints, splits
from deepcr_zoo.dataset.exposures import ChipPixels, detector_of
from deepcr_zoo.dataset.ignore import kept_bits
from deepcr_zoo.dataset.labelmethods import WAYS
from deepcr_zoo.zoo.recipe import Recipe, StampBlock


@dataclass(frozen=True, eq=False)
class LabelledExposure:
    """All chips of an exposure with their labels, in the order of EXTVER.

    Attributes
    ----------
    chips : list of ChipPixels
    cosmic_rays, ignored : list of ndarray of bool, shape (H, W)
        CR masks and ignore masks.
    expected : list of ndarray of float32, shape (H, W)
        What this one would see without cosmic rays, as far as its labels know, e-, sky included.
    """

    chips: list[ChipPixels]
    cosmic_rays: list[NDArray[np.bool_]]
    ignored: list[NDArray[np.bool_]]
    expected: list[NDArray[np.float32]]


class Labelling(Protocol):
    """The labels of a visit's exposures, by their number."""

    by_others: bool
    """Whether an exposure is labelled by the others, so that one out of line spoils them all."""

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


def check_room(shapes: Iterable[tuple[int, int]], block: StampBlock) -> None:
    """Make sure that chips hold a stamp at all.

    Raises
    ------
    VisitRejectedError
    """
    if not any(len(splits.positions(shape, block)) for shape in shapes):
        raise VisitRejectedError(
            f"its chips are too small for stamps of {block.size} pixels within borders of {block.border}"
        )


def largest_dither(first_chips: Sequence[tuple[tuple[int, int], WCS]]) -> float:
    """Largest distance between exposures, arcsec, at the middle of their first chips.

    Parameters
    ----------
    first_chips : sequence of ((int, int), WCS)
        Shape and place on the sky of that of each exposure.
    """
    middles = [wcs.all_pix2world([[width / 2, height / 2]], 0)[0] for (height, width), wcs in first_chips]
    return max((float(footprints.distance_arcsec(one, other)) for one, other in combinations(middles, 2)), default=0.0)


def labels_of(recipe: Recipe, software: Sequence[str]) -> str:
    """Where labels come from, with every setting.

    Parameters
    ----------
    recipe : Recipe
    software : sequence of str
        That made them.
    """
    way = WAYS[recipe.build.labels]
    settings = getattr(recipe.build, way.settings).model_dump(exclude={"darks"})  # somebody's folders
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{way.described} {' and '.join(software)}, {told}"


def ignored_of(recipe: Recipe) -> str:
    """Which pixels are ignored."""
    block = recipe.build.ignore
    kept, side = kept_bits(block, detector_of(recipe.instrument)), block.saturation_dilation
    return (
        f"DQ flags but for those of {kept}; pixels above {block.saturation_electron:g} e- and those in {side} x {side} "
        f"around them; pixels without a value; {WAYS[recipe.build.labels].untold}"
    )
