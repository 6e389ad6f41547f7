"""Compare simulated cosmic rays with those of real repeats: rates, sizes, lengths and widths. Nothing is fitted to them.

A cosmic ray is a group of pixels with one above 8 sigma of the difference to the other exposure, down to 4 sigma. Drift and
noise of a difference are medians of boxes of 15 x 15 pixels; simulated particles have that noise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.simulate.particles import ground_particles
from deepcr_zoo.zoo.simulation import SimulationBlock

STRONG, WEAK = 8.0, 4.0  # sigma
ZENITH_ANGLE_DEG = 35.0


@dataclass(frozen=True)
class Pair:
    """Two exposures of one pointing, and their CCD; thickness and charge spread are assumed."""

    name: str
    files: tuple[str, str]
    seconds: float
    gain: float
    pixel_size_um: float
    silicon_um: float
    charge_spread_um: float = 4.5


PAIRS = (
    Pair("WHT/ISIS blue", ("r2324653.fit.gz", "r2324656.fit.gz"), 1800.0, 1.2, 13.5, 16.0),
    Pair("Lick/Kast blue", ("b27.fits.gz", "b28.fits.gz"), 1200.0, 1.2, 15.0, 20.0),
    Pair("Lick/Kast red", ("r534.fits.gz", "r535.fits.gz"), 1200.0, 1.2, 15.0, 200.0),
)


def image_of(path: Path) -> NDArray[np.float64]:
    """Return the first image of a file, counts."""
    with fits.open(path) as hdus:
        return np.asarray(next(one.data for one in hdus if one.data is not None), dtype=np.float64)


def difference(pair: Pair, frames: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the difference of a pair without its drift, e-, and its sigma."""
    one, other = (image_of(frames / name) for name in pair.files)
    drift = one - other
    drift -= ndimage.median_filter(drift, 15)
    local = 1.4826 * ndimage.median_filter(np.abs(drift), 15)
    return drift * pair.gain, np.maximum(local, np.median(local)) * pair.gain


def shapes(excess: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pixels, length, width (pixels, from second moments) and charge of each cosmic ray, shape (N, 4)."""
    groups, count = ndimage.label(excess > WEAK * sigma, np.ones((3, 3)))
    strong = np.unique(groups[excess > STRONG * sigma])
    rows = []
    for number, place in enumerate(ndimage.find_objects(groups, count), 1):
        if number not in strong:
            continue
        inside = groups[place] == number
        where, weight = np.argwhere(inside), excess[place][inside]
        spread = np.cov(where.T, aweights=weight, bias=True) if len(where) > 1 else np.zeros((2, 2))
        small, large = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0) + 1 / 12) * np.sqrt(12)
        rows.append((len(where), large, small, weight.sum()))
    return np.array(rows).reshape(-1, 4)


def simulated(pair: Pair, sigma: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return particles of the defaults on a noise of this size, e-."""
    random = np.random.default_rng(seed)
    block = SimulationBlock()
    hits = ground_particles(sigma.shape, pair.seconds, pair, block, ZENITH_ANGLE_DEG, random)
    return hits + random.normal(0, 1, sigma.shape) * sigma


def row(name: str, found: NDArray[np.float64], pair: Pair, area_cm2: float) -> str:
    """Return a line of the table."""
    rate = len(found) / area_cm2 / pair.seconds * 60
    middle = np.median(found, axis=0)
    long = np.percentile(found[:, 1], 95)
    shape = (f"{one:.1f}" for one in (middle[0], middle[1], long, middle[2]))
    cells = (f"{len(found)}", f"{rate:.2f}", *shape, f"{middle[3]:.0f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    columns = ("", "number", "per cm2 and minute", "pixels", "length", "length, 95 %", "width", "charge, e-")
    print(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n")
    for pair in PAIRS:
        drift, sigma = difference(pair, options.frames)
        area_cm2 = drift.size * (pair.pixel_size_um * 1e-4) ** 2
        real = np.concatenate([shapes(sign * drift, sigma) for sign in (1, -1)])
        print(row(f"{pair.name}, real", real, pair, 2 * area_cm2))
        print(row(f"{pair.name}, simulated", shapes(simulated(pair, sigma, options.seed), sigma), pair, area_cm2))


if __name__ == "__main__":
    main()
