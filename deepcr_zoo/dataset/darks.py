"""Cosmic rays of dark exposures: signal above the median of all, which is bias, dark current and hot pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset.crsplit import RepeatedExposure
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.twopass import grow
from deepcr_zoo.errors import DataError
from deepcr_zoo.exposures.usablepixels import QualityBits, bad_pixels
from deepcr_zoo.models.images import has_value
from deepcr_zoo.zoo.recipe import InstrumentBlock, Split

LEAST = 3  # fewest darks whose median is free of the cosmic rays of each
_NEIGHBOURHOOD = 5  # side of the median around a hot pixel
_BAND = 128  # rows processed together: the median of many full frames must not double the memory they take


@dataclass(frozen=True)
class Detection:
    """Settings for finding cosmic rays in darks."""

    snr: tuple[float, float]  # thresholds of both passes, in sigma of read and Poisson noise
    grow: int  # the second threshold applies this many pixels around those above the first
    hot_snr: float  # pixels whose median of all darks exceeds the surroundings by this are not used
    bits: QualityBits  # meaning of the DQ bits
    read_noise_electron: float  # for files without a read noise
    instrument: InstrumentBlock = field(compare=False)  # not part of the key of `read_hits`: pixels of darks ignore it


@dataclass(frozen=True, eq=False)
class DarkHits:
    """The cosmic rays on a chip of a dark exposure: only their N pixels, which are few."""

    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    electrons: NDArray[np.float32]  # e-, positive


def split_darks(darks: Sequence[ExposureFacts], test_fraction: float, seed: int) -> dict[Split, tuple[ExposureFacts, ...]]:
    """Return the darks for training and those for test, at least `LEAST` each; no cosmic ray is in both."""
    if len(darks) < 2 * LEAST:
        raise DataError(
            f"{len(darks)} dark exposures can be used (build.dark_paste.darks): expected {2 * LEAST} or more, {LEAST} for "
            f"training and {LEAST} others for test, because the median of fewer has cosmic rays in it"
        )
    first = darks[0]
    if other := next((one for one in darks if one.shapes != first.shapes), None):
        raise DataError(
            f"{first.path} and {other.path} have chips of {describe_shapes(first.shapes)} and of "
            f"{describe_shapes(other.shapes)} pixels: expected darks that are all alike (build.dark_paste.darks)"
        )
    drawn = sorted(darks, key=lambda one: hashlib.sha256(f"{seed} {one.name}".encode()).hexdigest())
    count = min(max(LEAST, round(test_fraction * len(darks))), len(darks) - LEAST)
    chosen: dict[Split, list[ExposureFacts]] = {"test": drawn[:count], "train": drawn[count:]}
    return {name: tuple(sorted(members, key=lambda one: one.name)) for name, members in chosen.items()}


@lru_cache(maxsize=2)  # once in a process for each of training and test
def read_hits(darks: tuple[ExposureFacts, ...], detection: Detection) -> tuple[tuple[DarkHits, ...], ...]:
    """Return the cosmic rays of each of `LEAST` or more darks of the same shapes, for each chip in the order of EXTVER."""
    # all of them are in memory at once
    chips = [[_as_repeat(dark, chip, detection) for chip in read_chips(dark, detection.instrument)] for dark in darks]
    return tuple(tuple(find_hits(repeats, detection)) for repeats in zip(*chips, strict=True))


def find_hits(repeats: Sequence[RepeatedExposure], detection: Detection) -> list[DarkHits]:
    """Find the cosmic rays in each of `LEAST` or more darks of one chip, in two passes (see `crsplit`)."""
    rate = _median_rate(repeats)
    around = ndimage.median_filter(rate, _NEIGHBOURHOOD)
    hits = []
    for one in repeats:
        level, smooth = (per_second * np.float32(one.exposure_time_s) for per_second in (rate, around))
        hot = level - smooth > detection.hot_snr * one.noise(smooth)
        excess = one.image - level
        excess -= np.median(excess)  # the bias drifts
        good, noise = one.usable & ~hot, one.noise(level)
        strong, weak = (good & (excess > snr * noise) for snr in detection.snr)
        rows, columns = np.nonzero(grow(strong, weak, detection.grow))
        hits.append(DarkHits(one.image.shape, rows, columns, excess[rows, columns]))
    return hits


def _as_repeat(dark: ExposureFacts, chip: ChipPixels, detection: Detection) -> RepeatedExposure:
    image = np.where(has_value(chip.image), chip.image, np.float32(0))
    usable = ~(chip.masked | bad_pixels(chip.image, chip.quality, detection.bits))
    return RepeatedExposure(image, usable, dark.exposure_time_s, dark.read_noise_or(detection.read_noise_electron))


def _median_rate(repeats: Sequence[RepeatedExposure]) -> NDArray[np.float32]:
    """Return the median of all, e-/s, shape (H, W)."""
    rate = np.empty_like(repeats[0].image)
    for start in range(0, len(rate), _BAND):
        rows = slice(start, start + _BAND)
        rate[rows] = np.median([one.image[rows] / np.float32(one.exposure_time_s) for one in repeats], axis=0)
    return rate


def describe_shapes(shapes: Iterable[tuple[int, int]]) -> str:
    """Return the shapes of chips in words."""
    return " and ".join(f"{rows} x {columns}" for rows, columns in shapes)
