"""Masked pixels that lie as no cosmic rays do: in one row or column, on the same pixels of the detector, along trails.

Labels that were made from the exposures may share such flaws with a network, so that no TPR or FPR shows them. Therefore all
masked pixels count here, whatever their label. Where the labels are the truth, masked pixels of cosmic rays do not count:
long tracks exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.bench.measures.judgedpixels import JudgedStamps
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.models.images import Mask, groups

LINE_SHARE, LINE_PIXELS = 0.2, 20
"""A row or column of a chip is a structure if this share of its pixels is masked, and at least so many (assumed)."""

LINE_EXCESS = 5.0
"""And if that share is so many times that of the chip: where half of a chip is masked, all of its rows are."""

TRAIL_PIXELS = 200
"""A group of masked pixels of this length or more is a trail: cosmic rays are shorter, but in the thickest silicon."""

MOST_PIXELS = 1_000_000_000
"""Of a chip; the largest of today has a tenth."""

_PIXEL_BYTES = 16  # of masks, groups and counts

FEWEST_EXPOSURES, PERSISTENT_SHARE = 3, 0.6
"""A pixel is persistent if it is masked in so many exposures, and in this share of those that see it: not by chance."""


@dataclass(frozen=True, eq=False)
class ChipCounts:
    """How many exposures see each pixel of a chip, and how many mask it; shape (H, W)."""

    seen: NDArray[np.uint16]
    masked: NDArray[np.uint16]

    def __add__(self, other: ChipCounts) -> ChipCounts:
        rows, columns = np.maximum(self.seen.shape, other.seen.shape).tolist()
        shape = _checked((rows, columns))
        seen, masked = (np.zeros(shape, np.uint16) for _ in range(2))
        for one in (self, other):
            here = tuple(map(slice, one.seen.shape))
            seen[here] += one.seen
            masked[here] += one.masked
        return ChipCounts(seen, masked)

    @property
    def persistent(self) -> int:
        """Number of masked pixels, of all exposures, that are masked in most of them."""
        again = (self.masked >= FEWEST_EXPOSURES) & (self.masked >= PERSISTENT_SHARE * self.seen)
        return int(self.masked[again].sum())


@dataclass(frozen=True, eq=False)
class Structures:
    """Masked pixels of some exposures: all, those in lines, those of trails, and by chip those on the same places."""

    masked: int = 0
    in_lines: int = 0
    in_trails: int = 0
    chips: Mapping[int, ChipCounts] = field(default_factory=dict)

    def __add__(self, other: Structures) -> Structures:
        """Add the counts of other exposures of the same detector."""
        chips = dict(self.chips)
        for number, one in other.chips.items():
            chips[number] = chips[number] + one if number in chips else one
        return Structures(
            self.masked + other.masked, self.in_lines + other.in_lines, self.in_trails + other.in_trails, chips
        )

    @property
    def persistent(self) -> int:
        return sum(one.persistent for one in self.chips.values())


def find_structures(mask: Mask, stamps: JudgedStamps, true_rays: Mask | None = None) -> Structures:
    """Count the structures in a mask of an exposure's stamps, shape (N, S, S), without ignored pixels.

    `true_rays`, of the same shape, are the pixels of cosmic rays where the truth is known.
    """
    found, counted = Structures(), ~stamps.ignore
    doubted = mask & counted if true_rays is None else mask & counted & ~true_rays
    for chip in map(int, np.unique(stamps.chip)):
        masked, seen, doubtful = _put_together((mask & counted, counted, doubted), stamps, chip)
        found += Structures(
            int(masked.sum()),
            int((doubtful & _lines(masked, seen)).sum()),
            int((doubtful & _trails(masked)).sum()),
            {chip: ChipCounts(seen.astype(np.uint16), doubtful.astype(np.uint16))},
        )
    return found


def _checked(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of a chip that stamps lie in; `DatasetError` if it is none, or too large for this machine."""
    if min(shape) < 0 or math.prod(shape) > MOST_PIXELS:
        raise DatasetError(f"the stamps of a chip lie within {shape[0]:,} x {shape[1]:,} pixels: expected a chip")
    needed = math.prod(shape) * _PIXEL_BYTES
    if short := memory_shortage(needed):
        raise DatasetError(
            f"a chip of {shape[0]:,} x {shape[1]:,} pixels takes {needed / 1e9:.2g} GB to judge, {short}: judge on a "
            "machine with more"
        )
    return shape


def _put_together(layers: Sequence[Mask], stamps: JudgedStamps, chip: int) -> list[Mask]:
    """Return layers of a chip, from its first pixel; pixels between stamps are False."""
    own = np.flatnonzero(stamps.chip == chip)
    side, places = layers[0].shape[-1], stamps.position[own].astype(np.int64)
    rows, columns = (places.max(axis=0) + side).tolist()
    if places.min() < 0:
        raise DatasetError(f"a stamp of chip {chip} lies at {places.min()}: expected a chip, whose pixels begin with 0")
    shape = _checked((rows, columns))
    frames = [np.zeros(shape, bool) for _ in layers]
    for number, (row, column) in zip(own, places.tolist(), strict=True):
        for frame, layer in zip(frames, layers, strict=True):
            frame[row : row + side, column : column + side] |= layer[number]
    return frames


def _lines(masked: Mask, seen: Mask) -> Mask:
    """Return the pixels of rows and columns that are structures."""
    inside = np.zeros(masked.shape, bool)
    mean = masked.sum() / max(int(seen.sum()), 1)
    for axis in (0, 1):
        struck, pixels = masked.sum(axis=axis), seen.sum(axis=axis)
        share = struck / np.maximum(pixels, 1)
        lines = (struck >= LINE_PIXELS) & (share >= max(LINE_SHARE, LINE_EXCESS * mean))
        inside |= np.expand_dims(lines, axis)
    return inside


def _trails(masked: Mask) -> Mask:
    """Return the pixels of groups that are as long as trails."""
    label, _ = groups(masked)
    boxes = ndimage.find_objects(label)
    is_long = [max(side.stop - side.start for side in box) >= TRAIL_PIXELS for box in boxes]
    found: Mask = np.array([False, *is_long])[label]
    return found
