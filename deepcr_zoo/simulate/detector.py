"""Effects of the detector: defects, dark current, blooming, charge-transfer trails and read noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.bounds import MOST_ELECTRONS
from deepcr_zoo.zoo.recipe import SimulatedInstrument

BAD_PIXEL, HOT, WARM, BAD_COLUMN, FULL_WELL = 4, 16, 64, 128, 256  # bits of DQ (hstcal acsdq.h and wf3dq.h)
_SATURATED = 0.914  # share of the full well above which pixels are flagged: 77,400 of 84,700 e- (ACS Instrument Handbook)

# values without a source are assumed, of the order of those of ACS/WFC
_HOT_OR_WARM = 0.006  # share of pixels
_LEAST_EXCESS, _MOST_EXCESS, _EXCESS_INDEX = 0.06, 30.0, 1.1  # e- per second beyond dark, Pareto
_HOT_FROM = 0.14  # e- per second (STScI, ACS data quality flags: hot from 0.14, warm from 0.06)
_COLUMNS_PER_BAD_ONE = 256
_BAD_COLUMN_EXCESS = 0.3  # e- per second
_BAD_PIXELS = 0.0003  # share
_UNFLAGGED_WARM = 2e-4  # share of pixels that became warm after the last calibration
_UNFLAGGED_EXCESS, _UNFLAGGED_INDEX, _MOST_UNFLAGGED = 0.05, 1.5, 1.0

_TRAPPED, _TRAPPED_POWER, _ROWS_OF_LOSS = np.float32(0.2), np.float32(0.6), np.float32(2048)
_RELEASE_ROWS = (1.5, 15.0)


@dataclass(frozen=True)
class Defects:
    """Defects of a chip, shape (H, W)."""

    quality: NDArray[np.int16]  # DQ bits
    excess: NDArray[np.float32]  # dark current beyond that of a good pixel, e- per second; the calibration subtracts it


def draw_defects(shape: tuple[int, int], rng: np.random.Generator) -> Defects:
    """Draw hot and warm pixels, bad columns and bad pixels."""
    rows, columns = shape
    quality = np.zeros(shape, np.int16)
    excess = np.zeros(shape, np.float32)
    where = _pixels(round(_HOT_OR_WARM * rows * columns), shape, rng)
    level = np.minimum(_LEAST_EXCESS * (1 + rng.pareto(_EXCESS_INDEX, where[0].size)), _MOST_EXCESS)
    excess[where] = level
    quality[where] = np.where(level > _HOT_FROM, HOT, WARM)
    for column in rng.integers(0, columns, columns // _COLUMNS_PER_BAD_ONE):
        above = slice(rng.integers(0, rows), None)
        quality[above, column] |= BAD_COLUMN
        excess[above, column] += _BAD_COLUMN_EXCESS
    quality[_pixels(round(_BAD_PIXELS * rows * columns), shape, rng)] |= BAD_PIXEL
    return Defects(quality, excess)


def unflagged_warm_pixels(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw dark current that the calibration does not subtract, e- per second, shape (H, W)."""
    excess = np.zeros(shape, np.float32)
    where = _pixels(round(_UNFLAGGED_WARM * shape[0] * shape[1]), shape, rng)
    excess[where] = np.minimum(_UNFLAGGED_EXCESS * (1 + rng.pareto(_UNFLAGGED_INDEX, where[0].size)), _MOST_UNFLAGGED)
    return excess


@dataclass(frozen=True)
class Reading:
    """A chip after exposure, readout and calibration, shape (H, W), all but the DQ bits in e-."""

    electrons: NDArray[np.float32]  # dark subtracted
    error: NDArray[np.float32]  # estimated from the electrons, as in the calibration pipeline
    quality: NDArray[np.int16]
    noise: NDArray[np.float32]  # true sigma of the noise, from the scene


def read_out(
    scene: NDArray[np.float32],
    cosmic_rays: NDArray[np.float32],
    defects: Defects,
    transfers: NDArray[np.float32],
    seconds: float,
    instrument: SimulatedInstrument,
    rng: np.random.Generator,
) -> Reading:
    """Expose a chip to a scene and to cosmic rays (e-), read it and subtract the known dark current.

    `transfers`, shape (H,), counts the rows that the charge of a row moves through, to lower or (negative) higher rows.
    """
    dark = (instrument.dark_electron_s + defects.excess) * np.float32(seconds)
    expected = scene + dark
    charge = rng.poisson(np.clip(expected, 0, MOST_ELECTRONS)).astype(np.float32) + cosmic_rays
    quality = defects.quality.copy()
    quality[charge > _SATURATED * instrument.saturation_electron] |= FULL_WELL
    bloom(charge, instrument.saturation_electron)
    quality[charge > _SATURATED * instrument.saturation_electron] |= FULL_WELL
    leave_trails(charge, transfers)
    read_noise = np.float32(instrument.read_noise_electron)
    error = np.sqrt(charge + read_noise**2)
    charge += rng.standard_normal(charge.shape, np.float32) * read_noise
    return Reading(charge - dark, error, quality, np.sqrt(expected + read_noise**2))


def bloom(charge: NDArray[np.float32], full_well: float) -> None:
    """Spill charge beyond the full well half up and half down its column, in place; it is lost only at the chip's edges."""
    rows, columns = np.nonzero(charge > full_well)
    for column in np.unique(columns):
        line = charge[:, column].astype(np.float64)
        excess = np.maximum(line - full_well, 0)
        line -= excess
        full = rows[columns == column]
        for downstream in (range(full.min(), len(line)), range(full.max(), -1, -1)):
            flowing = 0.0
            for row in downstream:
                flowing += excess[row] / 2
                taken = min(flowing, full_well - line[row])
                line[row] += taken
                flowing -= taken
        charge[:, column] = line


def leave_trails(charge: NDArray[np.float32], transfers: NDArray[np.float32]) -> None:
    """Trap and release the charge that the pixel-based correction of calibrated exposures does not restore, in place.

    A packet of q electrons loses ``0.2 q^0.6`` over 2048 transfers, about a fifth of the losses of ACS/WFC in its middle
    years, half of it with each of two release lengths (shapes after Anderson & Bedin 2010; amounts estimated). `charge` is
    in e- and not negative; `transfers` as for `read_out`.
    """
    from scipy import signal  # it takes a second to import

    upwards = transfers.sum() < 0
    lost = _TRAPPED * np.abs(transfers[:, None]) / _ROWS_OF_LOSS * charge**_TRAPPED_POWER
    if upwards:
        lost = lost[::-1]
    released = np.zeros_like(lost)
    for length in _RELEASE_ROWS:
        stays = np.exp(np.float32(-1 / length))
        delay = (np.array([0, 1 - stays]), np.array([1, -stays]))
        released += signal.lfilter(*delay, lost, axis=0) / np.float32(len(_RELEASE_ROWS))
    released -= lost
    charge += released[::-1] if upwards else released
    np.maximum(charge, 0, out=charge)


def _pixels(number: int, shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return rng.integers(0, shape[0], number), rng.integers(0, shape[1], number)
