"""Counts of what several methods mask in the test stamps, which are read once: all methods see the same pixels."""

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
"""Distinct logits that are kept per field type (see `roc.RocCounts`): 84 MB, and a few hundred while they are merged."""

DILATION = (1, 3, 3)
"""Pixels over which masks are dilated: stamps, rows and columns; Zhang & Bloom 2020, Table 2."""

Groups = NDArray[np.integer]
Name = TypeVar("Name")


@dataclass(frozen=True, eq=False)
class PixelGroups:
    """Group numbers of the pixels of an exposure's stamps, shape (N, S, S), each with the number of groups.

    `blocks` are 2 x block of sky, + 1 for cosmic rays; `classes` clean or cosmic ray; `regions` the same of the outer 8
    pixels and of the interior. The others are those of `tracks` and `stars`.
    """

    blocks: tuple[Groups, int]
    classes: tuple[Groups, int]
    regions: tuple[Groups, int]
    brightness: tuple[Groups, int]
    sizes: tuple[Groups, int]
    stars: tuple[Groups, int]

    @classmethod
    def of(cls, stamps: JudgedStamps, blocks: SkyBlocks) -> PixelGroups:
        """Group the pixels of stamps, the same for all methods."""
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
    """Masked pixels of each of the `PixelGroups`.

    `dilated` counts clean and cosmic-ray pixels under masks dilated by 3 x 3 pixels; `exact` counts a network's logits.
    """

    blocks: Tally
    regions: Tally
    brightness: Tally
    sizes: Tally
    stars: Tally
    dilated: Tally
    exact: RocCounts | None = None

    def __add__(self, other: Detections) -> Detections:
        """Add the counts of other exposures of the same field type."""
        return self._joined(other, self.blocks + other.blocks)

    def beside(self, other: Detections) -> Detections:
        """Add the counts of another field type, whose blocks are other blocks."""
        return self._joined(other, self.blocks.beside(other.blocks))

    @property
    def classes(self) -> Tally:
        """Return the counts of clean and cosmic-ray pixels."""
        return self.blocks.summed(2)

    def _joined(self, other: Detections, blocks: Tally) -> Detections:
        exact = [one for one in (self.exact, other.exact) if one is not None]
        return Detections(
            blocks=blocks,
            regions=self.regions + other.regions,
            brightness=self.brightness + other.brightness,
            sizes=self.sizes + other.sizes,
            stars=self.stars + other.stars,
            dilated=self.dilated + other.dilated,
            exact=roc.merge(exact, MAX_THRESHOLDS) if exact else None,
        )


Method = Callable[[JudgedStamps, PixelGroups], Detections]
"""Masks the stamps of an exposure, and counts."""


def detect(
    methods: Mapping[Name, Method],
    dataset: Dataset,
    field_type: FieldType,
    blocks: SkyBlocks,
    on_exposure: OnExposure | None = None,
) -> dict[Name, Detections]:
    """Count what several methods (`network`, `masks_of`) mask in the test stamps of a field type."""
    found: dict[Name, Detections] = {}
    for stamps in judged_stamps(dataset, field_type, on_exposure):
        groups = PixelGroups.of(stamps, blocks)
        for name, method in methods.items():
            counted = method(stamps, groups)
            found[name] = found[name] + counted if name in found else counted
    return found


def network(model: MaskModel) -> Method:
    """Return the method that masks with a network, at every threshold."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        logits = model.logits(stamps.image)
        bins, dilated = (tally.logit_bins(one) for one in (logits, ndimage.maximum_filter(logits, DILATION)))
        exact = roc.count(logits, stamps.cosmic_rays, stamps.ignore, MAX_THRESHOLDS)
        return _count(partial(tally.tally_logits, bins), partial(tally.tally_logits, dilated), groups, exact)

    return count


def masks_of(masks: Callable[[JudgedStamps], NDArray[np.bool_]], thresholds: tuple[float, ...]) -> Method:
    """Return the method with one mask per ascending threshold, shape (T, N, S, S)."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        found = masks(stamps)
        square = np.ones(DILATION, bool)
        wide = [ndimage.binary_dilation(one, square) for one in found]
        return _count(
            partial(tally.tally_masks, list(found), thresholds), partial(tally.tally_masks, wide, thresholds), groups, None
        )

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
