"""Dark exposures on the disk, with the simulator's cosmic rays, and recipes that paste them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from deepcr_zoo.simulate.cosmicrays import IN_ORBIT, cosmic_rays
from deepcr_zoo.simulate.detector import HOT, draw_defects, read_out
from deepcr_zoo.zoo.recipe import Recipe
from tests.dataset.visits import SIDE, recipe_of, rule, shipped

SHAPE = (SIDE + 8, SIDE + 16)
SECONDS = 600.0
COUNT = 8
DARK_ELECTRON_S = 0.02


def write_darks(folder: Path, count: int = COUNT, shape: tuple[int, int] = SHAPE) -> None:
    """Darks from which no dark current has been subtracted, and beside each the electrons of its cosmic rays.

    Their DQ flags half of the hot pixels; they differ a little in exposure time, and in bias.
    """
    folder.mkdir(parents=True, exist_ok=True)
    instrument = shipped().instrument.model_copy(update={"dark_electron_s": DARK_ELECTRON_S})
    defects = draw_defects(shape, np.random.default_rng(1))
    known = np.random.default_rng(2).random(shape) < 0.5
    for number in range(count):
        random = np.random.default_rng([3, number])
        seconds = SECONDS + 50 * (number % 2)
        hits = cosmic_rays(shape, seconds, instrument, IN_ORBIT, random)
        nothing, no_transfers = np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)
        read = read_out(nothing, hits, defects, no_transfers, seconds, instrument, random)
        level = np.float32(seconds) * (np.float32(DARK_ELECTRON_S) + defects.excess) + np.float32(number % 3)
        primary = {
            "TELESCOP": "HST",
            "INSTRUME": "ACS",
            "DETECTOR": "WFC",
            "IMAGETYP": "DARK",
            "TARGNAME": "DARK",
            "ROOTNAME": f"jdark{number:03d}q",
            "EXPTIME": seconds,
            "READNSEA": instrument.read_noise_electron,
        }
        quality = np.where((read.quality & HOT > 0) & ~known, 0, read.quality).astype(np.int16)
        fits.HDUList(
            [
                fits.PrimaryHDU(header=fits.Header(primary)),
                fits.ImageHDU(read.electrons + level, fits.Header({"BUNIT": "ELECTRONS"}), name="SCI", ver=1),
                fits.ImageHDU(quality, name="DQ", ver=1),
            ]
        ).writeto(folder / f"jdark{number:03d}q_flt.fits")
        np.savez(folder / f"jdark{number:03d}q.npz", cosmic_rays=hits, excess=defects.excess)


def pasting(exposures: Path, darks: Path, *settings: str) -> Recipe:
    """A recipe that pastes these darks on one exposure of each field type; the globular cluster is for testing."""
    rules = {}
    for folder in sorted(path for path in exposures.iterdir() if path.is_dir()):
        file = min(folder.glob("*_flc.fits"))
        split = "test" if folder.name == "globular_cluster" else "train"
        rules[folder.name] = rule(file, folder.name, split, observation=file.name.partition("_")[0], exposures=1)
    block = ("build.labels=dark_paste", f"build.dark_paste.darks=[{darks}]", "build.quality.min_exposures=1")
    return recipe_of(rules, *block, *settings)
