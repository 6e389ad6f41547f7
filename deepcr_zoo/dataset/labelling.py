"""Results of label methods: labelled exposures of a visit, or a rejection of the visit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.cutting import stamp_positions
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.quality import Outlier
from deepcr_zoo.dataset.store import DitherRecord
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.zoo.recipe import InstrumentBlock, StampBlock


@dataclass(frozen=True, eq=False)
class LabelledExposure:
    """All chips of an exposure with their labels, in the order of EXTVER; arrays have the shape (H, W)."""

    chips: list[ChipPixels]
    cosmic_rays: list[NDArray[np.bool_]]  # CR masks
    ignored: list[NDArray[np.bool_]]  # ignore masks
    expected: list[NDArray[np.float32]]  # the scene without cosmic rays as estimated by the label method, e-, with sky
    defects: list[NDArray[np.bool_]] = field(
        default_factory=list
    )  # pixels that all exposures share, as the method found them


@dataclass(frozen=True, eq=False)
class LabellingInMemory:
    """The labels of the exposures of a visit; exposures are counted from 0."""

    exposures: list[LabelledExposure]
    compares_exposures: bool  # True if each exposure is labelled by the others, so that a bad one spoils all labels
    software: str
    largest_dither_arcsec: float
    on_grid: Sequence[NDArray[np.float32]] = ()  # their first chips on one grid, if their own pixels differ
    comparisons: Sequence[DitherRecord] = ()  # how exposures of different pixels were aligned and compared
    residuals_pixels: Sequence[float | None] = ()  # RMS of the stars of each alignment

    def labelled(self, index: int) -> LabelledExposure:
        """Return an exposure with its labels."""
        return self.exposures[index]

    def aligned(self, index: int) -> NDArray[np.float32]:
        """Return the first chip, on the grid that all share, zero or NaN where it has no data."""
        return self.on_grid[index] if self.on_grid else self.exposures[index].chips[0].image

    def fit_rms_pixels(self, index: int) -> float | None:
        """Return the RMS of the fit of the alignment, or None if none was fitted."""
        return self.residuals_pixels[index] if self.residuals_pixels else None

    def comparison(self, index: int) -> DitherRecord | None:
        """Return how an exposure was aligned and compared, or None if pixels are the same."""
        return self.comparisons[index] if self.comparisons else None


class VisitRejectedError(Exception):
    """A visit that cannot be labelled, now or later; the text is the reason."""


def label_each(
    exposures: Sequence[ExposureFacts],
    block: InstrumentBlock,
    label: Callable[[ExposureFacts, list[ChipPixels]], LabelledExposure],
) -> LabellingInMemory | Outlier:
    """Label each exposure alone, or return the first one of which `label` raises `InvalidFileError`."""
    labelled = []
    for index, facts in enumerate(exposures):
        chips = read_chips(facts, block)
        try:
            labelled.append(label(facts, chips))
        except InvalidFileError as error:
            return Outlier(index, str(error))
    dither = largest_dither([(one.chips[0].image.shape, one.chips[0].wcs) for one in labelled])
    return LabellingInMemory(labelled, False, f"deepcr-zoo {__version__}", dither)


def check_room(shapes: Iterable[tuple[int, int]], block: StampBlock) -> None:
    """Raise VisitRejectedError if no chip is large enough for a stamp."""
    if not any(len(stamp_positions(shape, block)) for shape in shapes):
        raise VisitRejectedError(
            f"its chips are too small for stamps of {block.size} pixels within borders of {block.border}"
        )


def largest_dither(first_chips: Sequence[tuple[tuple[int, int], WCS]]) -> float:
    """Return the largest distance between exposures, arcsec, from the shape and WCS of each one's first chip."""
    middles = [wcs.all_pix2world([[width / 2, height / 2]], 0)[0] for (height, width), wcs in first_chips]
    return max((float(footprints.distance_arcsec(one, other)) for one, other in combinations(middles, 2)), default=0.0)
