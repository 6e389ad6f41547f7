"""Cosmic rays of dark exposures: what one of them has beyond the median of all, which is bias, dark current, hot pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset.crsplit import RepeatedExposure, grown
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.errors import DataError
from deepcr_zoo.zoo.recipe import InstrumentBlock, Split

LEAST = 3
"""Darks whose median is free of the cosmic rays of each."""

_NEIGHBOURHOOD = 5
"""Side of the median that a hot pixel stands out of."""

_BAND = 128
"""Rows that are taken together: the median of many full frames is not held in memory twice."""


@dataclass(frozen=True)
class Detection:
    """How cosmic rays are found in darks.

    Attributes
    ----------
    snr : tuple of float
        Thresholds of both passes, in sigma of read and Poisson noise.
    grow : int
        Pixels around a found one where the second threshold counts.
    hot_snr : float
        Where the median of all darks stands so far out of its surroundings, nothing is taken.
    kept_bits : int
        DQ bits that do not exclude a pixel.
    read_noise_electron : float
        Where a file tells none.
    instrument : InstrumentBlock
        As the reader of files wants it.
    """

    snr: tuple[float, float]
    grow: int
    hot_snr: float
    kept_bits: int
    read_noise_electron: float
    instrument: InstrumentBlock = field(compare=False)


@dataclass(frozen=True, eq=False)
class DarkHits:
    """The cosmic rays on a chip of a dark exposure: their pixels alone, which are few.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the chip.
    rows, columns : ndarray of int64, shape (N,)
    electrons : ndarray of float32, shape (N,)
        What they left there, e-, positive.
    """

    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    electrons: NDArray[np.float32]


def split(darks: Sequence[ExposureFacts], test_fraction: float, seed: int) -> dict[Split, tuple[ExposureFacts, ...]]:
    """The darks for training and those for test, so that no cosmic ray is in both.

    Parameters
    ----------
    darks : sequence of ExposureFacts
    test_fraction : float
        Share of the darks for test: `LEAST` at least.
    seed : int
        Chooses them.

    Raises
    ------
    DataError
        If there are too few for both, or their chips differ in shape.
    """
    if len(darks) < 2 * LEAST:
        raise DataError(
            f"{len(darks)} dark exposures can be used (build.dark_paste.darks): expected {2 * LEAST} or more, {LEAST} for "
            f"training and {LEAST} others for test, because the median of fewer has cosmic rays in it"
        )
    first = darks[0]
    if other := next((one for one in darks if one.shapes != first.shapes), None):
        raise DataError(
            f"{first.path} and {other.path} have chips of {_told(first)} and of {_told(other)} pixels: expected darks that "
            "are all alike (build.dark_paste.darks)"
        )
    drawn = sorted(darks, key=lambda one: hashlib.sha256(f"{seed} {one.name}".encode()).hexdigest())
    count = min(max(LEAST, round(test_fraction * len(darks))), len(darks) - LEAST)
    chosen: dict[Split, list[ExposureFacts]] = {"test": drawn[:count], "train": drawn[count:]}
    return {name: tuple(sorted(members, key=lambda one: one.name)) for name, members in chosen.items()}


@lru_cache(maxsize=2)
def bank(darks: tuple[ExposureFacts, ...], detection: Detection) -> tuple[tuple[DarkHits, ...], ...]:
    """The cosmic rays of darks, read once in a process for each of training and test.

    Parameters
    ----------
    darks : tuple of ExposureFacts
        `LEAST` or more, with chips of the same shapes; all of them are in memory at once.
    detection : Detection

    Returns
    -------
    tuple of tuple of DarkHits
        For each chip, in the order of EXTVER: those of each dark.

    Raises
    ------
    InvalidFileError
        If a file has changed or gone since the darks were listed.
    """
    chips = [[_as_repeat(dark, chip, detection) for chip in read_chips(dark, detection.instrument)] for dark in darks]
    return tuple(tuple(find_hits(repeats, detection)) for repeats in zip(*chips, strict=True))


def find_hits(repeats: Sequence[RepeatedExposure], detection: Detection) -> list[DarkHits]:
    """Find the cosmic rays in each of several darks of one chip, in two passes (see `crsplit`).

    A dark has its own offset from the median, which drifts of the bias make.

    Parameters
    ----------
    repeats : sequence of RepeatedExposure
        `LEAST` or more.
    detection : Detection
    """
    rate = _median_rate(repeats)
    around = ndimage.median_filter(rate, _NEIGHBOURHOOD)
    hits = []
    for one in repeats:
        level, smooth = (per_second * np.float32(one.exposure_time_s) for per_second in (rate, around))
        hot = level - smooth > detection.hot_snr * one.noise(smooth)
        excess = one.image - level
        excess -= np.median(excess)
        good, noise = one.usable & ~hot, one.noise(level)
        strong, weak = (good & (excess > snr * noise) for snr in detection.snr)
        rows, columns = np.nonzero(grown(strong, weak, detection.grow))
        hits.append(DarkHits(one.image.shape, rows, columns, excess[rows, columns]))
    return hits


def _as_repeat(dark: ExposureFacts, chip: ChipPixels, detection: Detection) -> RepeatedExposure:
    finite = np.isfinite(chip.image)
    return RepeatedExposure(
        np.where(finite, chip.image, np.float32(0)),
        finite & ((chip.quality.astype(np.int64) & ~detection.kept_bits) == 0),
        dark.exposure_time_s,
        dark.read_noise_or(detection.read_noise_electron),
    )


def _median_rate(repeats: Sequence[RepeatedExposure]) -> NDArray[np.float32]:
    """Electrons per second in the median of all, shape (H, W)."""
    rate = np.empty_like(repeats[0].image)
    for start in range(0, len(rate), _BAND):
        rows = slice(start, start + _BAND)
        rate[rows] = np.median([one.image[rows] / np.float32(one.exposure_time_s) for one in repeats], axis=0)
    return rate


def _told(dark: ExposureFacts) -> str:
    return " and ".join(f"{rows} x {columns}" for rows, columns in dark.shapes)
