"""Counts of what several methods mask in the test stamps, which are read once: all methods see the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from deepcr_zoo.bench.measures import roc, stars, tally, tracks
from deepcr_zoo.bench.measures.blocks import SkyBlocks, key
from deepcr_zoo.bench.measures.judgedpixels import JudgedStamps, OnExposure, judged_stamps, noise_for
from deepcr_zoo.bench.measures.roc import RocCounts
from deepcr_zoo.bench.measures.structures import Structures, find_structures
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
Count = Callable[[Groups, int], Tally]


@dataclass(frozen=True)
class PixelGroups:
    """Groups of an exposure's pixels.

    `by_tally`: group numbers, shape (N, S, S), and the number of groups, by tally of `Detections`; `cosmic_ray`: the cosmic
    ray that each pixel is of; `sizes`: the size group of each cosmic ray.
    """

    by_tally: Mapping[str, tuple[Groups, int]]
    cosmic_ray: Groups
    sizes: Groups


def _pixel_groups(stamps: JudgedStamps, blocks: SkyBlocks) -> PixelGroups:
    """Group pixels, the same for all methods: by block of sky and class, by class alone (dilated), by region and class."""
    image, labels, ignore = stamps.image, stamps.cosmic_rays, stamps.ignore
    block = blocks.of_stamps[key(stamps.group)]
    by_tally = {
        "blocks": (tracks.class_group(labels, ignore, block), 2 * blocks.count),
        "dilated": (tracks.class_group(labels, ignore, np.zeros_like(block)), 2),
        "regions": (tracks.region_group(labels, ignore), 2 * len(tracks.REGIONS)),
        "brightness": (tracks.brightness_group(image, labels, ignore), len(tracks.BRIGHTNESS_EDGES) + 1),
        "sizes": (tracks.size_group(labels, ignore), len(tracks.SIZE_EDGES)),
        "stars": (stars.star_cores(image, labels, ignore), len(stars.PEAK_EDGES) + 1),
    }
    return PixelGroups(by_tally, *tracks.whole_cosmic_rays(labels, ignore))


@dataclass(frozen=True, eq=False)
class Detections:
    """Masked pixels of each group of pixels.

    `dilated` counts clean and cosmic-ray pixels under masks dilated by 3 x 3 pixels; `whole` counts cosmic rays, by size, of
    which half of the pixels or more are masked; `exact` counts a network's logits, and `structures` what it masks at its
    default threshold.
    """

    blocks: Tally
    regions: Tally
    brightness: Tally
    sizes: Tally
    stars: Tally
    dilated: Tally
    whole: Tally
    exact: RocCounts | None = None
    structures: Structures | None = None

    def __add__(self, other: Detections) -> Detections:
        """Add the counts of other exposures of the same field type."""
        return self._joined(other, self.blocks + other.blocks)

    def beside(self, other: Detections) -> Detections:
        """Add the counts of another field type, whose blocks are other blocks."""
        return self._joined(other, self.blocks.beside(other.blocks))

    @property
    def classes(self) -> Tally:
        return self.blocks.summed(2)

    def _joined(self, other: Detections, blocks: Tally) -> Detections:
        exact = [one for one in (self.exact, other.exact) if one is not None]
        names = ("regions", "brightness", "sizes", "stars", "dilated", "whole")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        structures = [one for one in (self.structures, other.structures) if one is not None]
        return Detections(
            blocks,
            **sums,
            exact=roc.merge(exact, MAX_THRESHOLDS) if exact else None,
            structures=sum(structures, Structures()) if structures else None,
        )


Method = Callable[[JudgedStamps, PixelGroups], Detections]
"""Masks the stamps of an exposure, and counts."""


def detect(
    methods: Mapping[Name, Method],
    dataset: Dataset,
    field_type: FieldType,
    blocks: SkyBlocks,
    on_exposure: OnExposure = None,
) -> dict[Name, Detections]:
    """Count what several methods (`network`, `masks_of`) mask in the test stamps of a field type."""
    found: dict[Name, Detections] = {}
    for stamps in judged_stamps(dataset, field_type, on_exposure):
        groups = _pixel_groups(stamps, blocks)
        for name, method in methods.items():
            counted = method(stamps, groups)
            found[name] = found[name] + counted if name in found else counted
    return found


def network(model: MaskModel, labels_are_truth: bool) -> Method:
    """Return the method that masks with a network, at every threshold."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        logits = model.logits(stamps.image, noise=noise_for(model, stamps.group))
        bins, wide = (tally.logit_bins(one) for one in (logits, ndimage.maximum_filter(logits, DILATION)))
        counts, dilated = (partial(tally.tally_logits, one) for one in (bins, wide))
        whole = partial(tally.tally_logits, tracks.middle_of_each(bins, groups.cosmic_ray))
        true_rays = stamps.cosmic_rays if labels_are_truth else None
        found = find_structures(logits > np.float32(logit(model.threshold)), stamps, true_rays)
        exact = roc.count(logits, stamps.cosmic_rays, stamps.ignore, MAX_THRESHOLDS)
        return replace(_count(counts, dilated, whole, groups), exact=exact, structures=found)

    return count


def masks_of(masks: Callable[[JudgedStamps], NDArray[np.bool_]], thresholds: tuple[float, ...]) -> Method:
    """Return the method with one mask per ascending threshold, shape (T, N, S, S)."""

    def count(stamps: JudgedStamps, groups: PixelGroups) -> Detections:
        found = masks(stamps)
        wide = [ndimage.binary_dilation(one, np.ones(DILATION, bool)) for one in found]
        rays = [tracks.middle_of_each(one, groups.cosmic_ray) for one in found]
        counts, dilated, whole = (partial(tally.tally_masks, one, thresholds) for one in ([*found], wide, rays))
        return _count(counts, dilated, whole, groups)

    return count


def _count(counts: Count, dilated: Count, whole: Count, groups: PixelGroups) -> Detections:
    tallies = {name: (dilated if name == "dilated" else counts)(*group) for name, group in groups.by_tally.items()}
    return Detections(**tallies, whole=whole(groups.sizes, len(tracks.SIZE_EDGES)), exact=None, structures=None)
