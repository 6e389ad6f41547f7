"""Groups of pixels to judge a mask on: bright and faint cosmic rays, large and small ones, edge and interior.

Groups are numbers from 0; pixels that are not counted have `NO_GROUP`. All arrays have shape (N, S, S).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.bench.measures.stars import Groups, Images, Masks
from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.bench.results import Region
from deepcr_zoo.models.images import replace_from_neighbours

BRIGHTNESS_EDGES = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
"""Excess of a pixel over its surroundings, e-; `brightness_group` has one group more, with no bound at either end."""

SIZE_EDGES = (1, 2, 3, 5, 9, 17, 33)
"""Fewest pixels of the cosmic rays of each group of `size_group`."""

REGIONS: tuple[Region, ...] = ("outer 8 pixels", "interior")
"""Parts of a stamp, in the order of `region_group`."""

OUTER_PIXELS = 8

_WITHIN_STAMP = np.zeros((3, 3, 3), dtype=bool)  # touching pixels, corners too, but never those of the next stamp
_WITHIN_STAMP[1] = True


def brightness_group(image: Images, cosmic_rays: Masks, ignore: Masks) -> Groups:
    """Group cosmic-ray pixels by how many of `BRIGHTNESS_EDGES` their excess over the surroundings (e-) reaches.

    Surroundings are the median of the 5x5 pixels around that are neither cosmic ray nor ignored, or the nearest such pixel.
    """
    group = np.full(image.shape, NO_GROUP, dtype=np.int32)
    for pixels, struck, bad, out in zip(image, cosmic_rays, ignore, group, strict=True):
        counted = struck & ~bad
        excess = pixels[counted] - replace_from_neighbours(pixels, counted, ~struck & ~bad)[counted]
        out[counted] = np.digitize(excess, BRIGHTNESS_EDGES)
    return group


def size_group(cosmic_rays: Masks, ignore: Masks) -> Groups:
    """Group cosmic-ray pixels by the pixels of their cosmic ray in the stamp (`SIZE_EDGES`); corners touch.

    Ignored pixels count for the size, but are in no group.
    """
    label, _ = ndimage.label(cosmic_rays, _WITHIN_STAMP)
    group = np.full(cosmic_rays.shape, NO_GROUP, dtype=np.int32)
    pixels = np.bincount(label[cosmic_rays])
    counted = cosmic_rays & ~ignore
    group[counted] = np.digitize(pixels[label[counted]], SIZE_EDGES) - 1
    return group


def whole_cosmic_rays(cosmic_rays: Masks, ignore: Masks) -> tuple[Groups, Groups]:
    """Return the cosmic ray that each pixel is of, counted from 0 in all stamps together, and the size group of each.

    Ignored pixels are of none, nor is a cosmic ray of ignored pixels alone.
    """
    label, _ = ndimage.label(cosmic_rays, _WITHIN_STAMP)
    counted = cosmic_rays & ~ignore
    number = np.full(cosmic_rays.shape, NO_GROUP, dtype=np.int32)
    known, number[counted] = np.unique(label[counted], return_inverse=True)
    pixels = np.bincount(label[cosmic_rays], minlength=int(label.max(initial=0)) + 1)
    return number, (np.digitize(pixels[known], SIZE_EDGES) - 1).astype(np.int32)


def middle_of_each(values: NDArray[Any], number: NDArray[np.integer]) -> NDArray[Any]:
    """Return of each cosmic ray (`number` of `whole_cosmic_rays`) the value that half of its pixels or more reach."""
    counted = number != NO_GROUP
    numbers, found = number[counted], values[counted]
    order = np.lexsort((found, numbers))
    sizes = np.bincount(numbers)
    middle: NDArray[Any] = found[order][np.cumsum(sizes) - (sizes + 1) // 2]  # ascending: the last of each is its highest
    return middle


def region_group(cosmic_rays: Masks, ignore: Masks) -> Groups:
    """Group pixels by region and class: twice the number of the region in `REGIONS`, plus 1 for cosmic rays."""
    region = np.zeros(cosmic_rays.shape[1:], dtype=np.int32)
    region[OUTER_PIXELS:-OUTER_PIXELS, OUTER_PIXELS:-OUTER_PIXELS] = 1
    return _by_class(region, cosmic_rays, ignore)


def class_group(cosmic_rays: Masks, ignore: Masks, block: NDArray[np.integer]) -> Groups:
    """Group pixels by block and class: twice the block of their stamp, shape (N,), plus 1 for cosmic rays."""
    return _by_class(block.astype(np.int32)[:, None, None], cosmic_rays, ignore)


def _by_class(part: Groups, cosmic_rays: Masks, ignore: Masks) -> Groups:
    group: Groups = 2 * part + cosmic_rays.astype(np.int32)
    group[ignore] = NO_GROUP
    return group
