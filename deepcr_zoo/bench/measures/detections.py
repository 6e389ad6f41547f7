"""One look at every test stamp: all that is counted of the masks of several methods, on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.bench.measures import roc, stars, tally, tracks
from deepcr_zoo.bench.measures.blocks import SkyBlocks, key
from deepcr_zoo.bench.measures.judged import JudgedStamps, OnExposure, judged_stamps
from deepcr_zoo.bench.measures.roc import RocCounts
from deepcr_zoo.bench.measures.tally import Tally
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.recipe import FieldType

MAX_THRESHOLDS = 2**22
"""Distinct logits that are kept of a field type (see `roc.RocCounts`): 84 MB, and some hundred while they are merged."""

DILATION = (1, 3, 3)
"""Of masks, in stamps, rows and columns; Zhang & Bloom 2020, Table 2."""

Groups = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class PixelGroups:
    """What pixels of an exposure's stamps are told apart by: group numbers, shape (N, S, S), and how many groups there are.

    Attributes
    ----------
    blocks : tuple of ndarray and int
        2 x block of sky, + 1 for cosmic rays.
    classes, regions, brightness, sizes, stars : tuple of ndarray and int
        Clean or cosmic ray; the same of the outer 8 pixels and of the interior; see `tracks` and `stars`.
    """

    blocks: tuple[Groups, int]
    classes: tuple[Groups, int]
    regions: tuple[Groups, int]
    brightness: tuple[Groups, int]
    sizes: tuple[Groups, int]
    stars: tuple[Groups, int]

    @classmethod
    def of(cls, stamps: JudgedStamps, blocks: SkyBlocks) -> PixelGroups:
        """The groups of these stamps, whatever method is judged."""
        image, labels, ignore = stamps.image, stamps.cosmic_rays, stamps.ignore
        block = blocks.of_stamps[key(stamps.group)]
        return cls(
            blocks=(tracks.class_group(labels, ignore, block), 2 * blocks.count),
            classes=(tracks.class_group(labels, ignore, np.zeros_like(block)), 2),
            regions=(tracks.region_group(labels, ignore), 2 * len(tracks.REGIONS)),
            brightness=(tracks.brightness_group(image, labels, ignore), len(tracks.BRIGHTNESS_EDGES) + 1),
            sizes=(tracks.size_group(labels, ignore), len(tracks.SIZE_EDGES)),
            stars=(stars.star_cores(image, labels, ignore), len(stars.PEAK_EDGES) + 1),
        )


@dataclass(frozen=True, eq=False)
class Detections:
    """Masked pixels of every group; counts of several exposures of one field type add up.

    Attributes
    ----------
    blocks, regions, brightness, sizes, stars : Tally
        See `PixelGroups`.
    dilated : Tally
        Clean and cosmic-ray pixels under masks that were dilated by 3 x 3.
    exact : RocCounts or None
        By logit, of a network.
    """

    blocks: Tally
    regions: Tally
    brightness: Tally
    sizes: Tally
    stars: Tally
    dilated: Tally
    exact: RocCounts | None = None

    def __add__(self, other: Detections) -> Detections:
        both = (one for one in (self.exact, other.exact) if one is not None)
        return Detections(
            blocks=self.blocks + other.blocks,
            exact=roc.merge(both, MAX_THRESHOLDS) if self.exact is not None else None,
            **self._without_blocks(other),
        )

    def beside(self, other: Detections) -> Detections:
        """Together with those of another field type, whose blocks are other blocks."""
        both = (one for one in (self.exact, other.exact) if one is not None)
        return Detections(
            blocks=self.blocks.beside(other.blocks),
            exact=roc.merge(both, MAX_THRESHOLDS) if self.exact is not None else None,
            **self._without_blocks(other),
        )

    @property
    def classes(self) -> Tally:
        """Clean and cosmic-ray pixels."""
        return self.blocks.summed(2)

    def _without_blocks(self, other: Detections) -> dict[str, Tally]:
        names = ("regions", "brightness", "sizes", "stars", "dilated")
        return {name: getattr(self, name) + getattr(other, name) for name in names}


Method = Callable[[JudgedStamps, PixelGroups], Detections]
"""Masks the stamps of an exposure, and counts."""


Name = TypeVar("Name")


def detect(
    methods: Mapping[Name, Method],
    dataset: Dataset,
    field_type: FieldType,
    blocks: SkyBlocks,
    on_exposure: OnExposure | None = None,
) -> dict[Name, Detections]:
    """Let several methods mask the test stamps of a field type, which has some, and count what they mask.

    Parameters
    ----------
    methods : mapping of hashable to callable
        By name; see `network` and `masks_of`.
    dataset : Dataset
    field_type : FieldType
    blocks : SkyBlocks
        Of the same.
    on_exposure : callable, optional
        Called after each exposure.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If a network gives NaN or infinity for a pixel that counts.
    """
    found: dict[Name, Detections] = {}
    for stamps in judged_stamps(dataset, field_type, on_exposure=on_exposure):
        groups = PixelGroups.of(stamps, blocks)
        for name, method in methods.items():
            counted = method(stamps, groups)
            found[name] = found[name] + counted if name in found else counted
    return found


def network(model: MaskModel) -> Method:
    """Masks of a network, at every threshold."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        logits = model.logits(stamps.image)
        bins, dilated = (tally.logit_bins(one) for one in (logits, ndimage.maximum_filter(logits, DILATION)))
        exact = roc.count(logits, stamps.cosmic_rays, stamps.ignore, MAX_THRESHOLDS)
        return _count(partial(tally.tally_logits, bins), partial(tally.tally_logits, dilated), groups, exact)

    return count


def masks_of(masks: Callable[[JudgedStamps], NDArray[np.bool_]], thresholds: tuple[float, ...]) -> Method:
    """Masks of anything that has one mask per threshold, shape (T, N, S, S), the thresholds ascending."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        found = masks(stamps)
        square = np.ones(DILATION, bool)
        wide = [ndimage.binary_dilation(one, square) for one in found]

        def tallied(layers: list[NDArray[np.bool_]], group: Groups, count: int) -> Tally:
            return tally.tally_masks(layers, thresholds, group, count)

        return _count(partial(tallied, list(found)), partial(tallied, wide), groups, None)

    return count


def _count(
    counts: Callable[[Groups, int], Tally],
    dilated: Callable[[Groups, int], Tally],
    groups: PixelGroups,
    exact: RocCounts | None,
) -> Detections:
    return Detections(
        blocks=counts(*groups.blocks),
        regions=counts(*groups.regions),
        brightness=counts(*groups.brightness),
        sizes=counts(*groups.sizes),
        stars=counts(*groups.stars),
        dilated=dilated(*groups.classes),
        exact=exact,
    )
