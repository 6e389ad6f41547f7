"""How well masked pixels are filled: pixels without a cosmic ray are hidden, filled, and compared with what they were.

As in Zhang & Bloom 2020, section 3.2: the pixels that are hidden are those of the cosmic rays of other stamps, so that they
have the shapes of cosmic rays. The stamp's own cosmic rays are hidden too, but nobody knows what is under them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.judged import Change, JudgedStamps, OnExposure, judged_stamps
from deepcr_zoo.bench.residuals import ErrorSums
from deepcr_zoo.dataset.reading import Dataset, Stamp
from deepcr_zoo.errors import DataError
from deepcr_zoo.recipe import FieldType

MASKS_PER_STAMP = 1
"""Of other stamps; Zhang & Bloom 2020, Table 3."""

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
Fill = Callable[[Images, Masks], Images]
"""Gives the images, shape (N, S, S), with new values where the masks are set: `InpaintModel.fill`, `baselines.medmask`."""


def added_masks(stamps: Sequence[Stamp], numbers: Sequence[int], seed: int, masks: int = MASKS_PER_STAMP) -> Masks:
    """For each stamp the union of the CR masks of other stamps, drawn per (seed, stamp).

    Parameters
    ----------
    stamps : sequence of Stamp
        All that masks are taken from.
    numbers : sequence of int
        For which of them.
    seed : int
    masks : int
        How many other stamps, all different.

    Returns
    -------
    ndarray of bool, shape (N, S, S)

    Raises
    ------
    DataError
        If there are not so many other stamps.
    """
    if len(stamps) <= masks:
        raise DataError(
            f"there are {len(stamps)} stamps to take inpainting masks from: expected at least {masks + 1}, because each "
            f"gets those of {masks} others"
        )

    def union(number: int) -> Masks:
        steps = np.random.default_rng([seed, number]).choice(len(stamps) - 1, masks, replace=False)
        others = (number + 1 + steps) % len(stamps)  # a step of 1 to n - 1 leads to any stamp but the same
        return np.asarray(np.any([stamps[int(other)].cosmic_rays for other in others], axis=0))

    return np.stack([union(number) for number in numbers])


def judge(
    fills: Mapping[str, Fill],
    dataset: Dataset,
    field_type: FieldType,
    seed: int,
    masks: int = MASKS_PER_STAMP,
    *,
    change: Change | None = None,
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
    seed : int
        Chooses the added masks; they are the same whatever field type and method.
    masks : int
        Test stamps, of any field type, whose CR masks are added to each stamp's own.
    change : callable, optional
        Gives the image that is judged in place of the exposure's own.
    on_exposure : callable, optional
        Called after each exposure.

    Returns
    -------
    dict of str to ErrorSums
        Over the pixels of the added masks that are no cosmic ray of the stamp itself and not ignored.

    Raises
    ------
    DataError
        If there are too few test stamps for so many masks.
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If a method fills a pixel with NaN or infinity.
    """
    sources = dataset.stamps("test")
    sums = dict.fromkeys(fills, ErrorSums())
    for stamps in judged_stamps(dataset, field_type, change, on_exposure):
        added = added_masks(sources, stamps.numbers, seed, masks)
        for name, fill in fills.items():
            sums[name] += _errors(fill, stamps, added)
    return sums


def _errors(fill: Fill, stamps: JudgedStamps, added: Masks) -> ErrorSums:
    filled = fill(stamps.image, added | stamps.cosmic_rays)
    judged = added & ~stamps.cosmic_rays & ~stamps.ignore
    return ErrorSums.of(filled[judged], stamps.image[judged])
