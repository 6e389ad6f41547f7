"""Repeated exposures of a slit, small and calibrated, or raw and of full size; and recipes that take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.fitsfiles import STIS

SHAPE = (200, 168)
RAW_SHAPE = (1034, 532)
LIT = (slice(10, 1034), slice(11, 522))
NOISE, BIAS = 4.0, 1500.0
STAMP, BORDER = 32, 4
PROPOSAL = 7353


@dataclass(frozen=True)
class Observation:
    """What was written.

    Attributes
    ----------
    path : Path
    cosmic_rays : list of ndarray of bool
        Of each exposure, as far as it sees light.
    hot : ndarray of bool
        Hot pixels, the same in all observations.
    """

    path: Path
    cosmic_rays: list[np.ndarray]
    hot: np.ndarray


def write_observation(
    folder: Path,
    number: int,
    *,
    shape: tuple[int, int] = SHAPE,
    times: Sequence[float] = (900.0, 1100.0),
    backgrounds: Sequence[float] | None = None,
    raw: bool = False,
    in_files: bool = False,
    cosmic_rays: Sequence[int] | None = None,
) -> Observation:
    """Write repeats of one pointing, as one file with an image set each, or as a file each.

    Parameters
    ----------
    folder : Path
    number : int
        Of the observation: its name, its cosmic rays, and how far the slit is off.
    shape : tuple of int
        Of what sees light.
    times : sequence of float
        Seconds, one each exposure.
    backgrounds : sequence of float, optional
        e-/s of each exposure; 0.02 by default.
    raw : bool
        As read out: a bias level and an overscan, unsigned 16-bit counts, no DQ.
    in_files : bool
        A file each.
    cosmic_rays : sequence of int, optional
        Tracks in each exposure; by default so many that they cover about 3 % of the pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = f"o5650{number:02d}10"
    hot = np.random.default_rng(1).random(shape) < 0.01
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    spectrum = np.exp(-((rows - 0.55 * shape[0]) ** 2) / 18) * (1 + 3 * np.exp(-((columns - 0.6 * shape[1]) ** 2) / 8))
    sets, masks = [], []
    for index, time in enumerate(times):
        random = np.random.default_rng([number, index])
        background = 0.02 if backgrounds is None else backgrounds[index]
        electrons = random.poisson((background + 0.5 * spectrum + 0.3 * hot) * time) + random.normal(0, NOISE, shape)
        struck = _tracks(random, shape, cosmic_rays[index] if cosmic_rays else round(0.006 * shape[0] * shape[1]))
        masks.append(struck > 0)
        sets.append(_image_set(electrons + struck, time, index, number, raw))
    primary = {
        **STIS,
        "PROPOSID": PROPOSAL,
        "LINENUM": "02.001",
        "TARGNAME": "NGC1068",
        "CCDAMP": "D",
        "CRSPLIT": len(times),
    }
    primary |= {"BINAXIS1": 2, "BINAXIS2": 1, "BLEVCORR": "PERFORM" if raw else "COMPLETE"}
    groups = [[one] for one in sets] if in_files else [sets]
    ending = "raw" if raw else "flt"
    paths = []
    for place, group in enumerate(groups):
        name = root if not in_files else f"{root[:-1]}{place}"
        header = fits.Header({**primary, "ROOTNAME": name})
        hdus = [hdu for version, image_set in enumerate(group, 1) for hdu in _numbered(image_set, version)]
        paths.append(folder / f"{name}_{ending}.fits")
        fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(paths[-1], overwrite=True)
    return Observation(paths[0], masks, hot)


def recipe_of(*settings: str, product: str = "flt", test: str = "o56500410") -> Recipe:
    """The STIS recipe for these files: small stamps, one observation for testing."""
    small = (f"build.stamps.size={STAMP}", f"build.stamps.border={BORDER}", "build.stamps.validation_fraction=0.2")
    content: dict[str, Any] = read_recipe(
        find_recipe("stis-ccd"), [*small, f"data.product={product}", *settings]
    ).model_dump()
    common = {"proposal": PROPOSAL, "visit": "02", "field_type": "spectrum"}
    content["data"]["visits"] = {
        "test": {**common, "observation": test, "split": "test"},
        "training": {**common, "observation": "o56*", "split": "train"},
    }
    content["instrument"]["chip_shape"] = list(SHAPE)
    return Recipe.model_validate(content)


def _tracks(random: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Electrons of cosmic rays: straight tracks."""
    struck = np.zeros(shape)
    for _ in range(count):
        row, column = random.uniform(2, shape[0] - 3), random.uniform(2, shape[1] - 3)
        angle, length, charge = random.uniform(0, np.pi), random.exponential(4) + 1, random.uniform(200, 2000)
        for step in np.arange(0, length, 0.5):
            place = round(row + step * np.sin(angle)), round(column + step * np.cos(angle))
            if place[0] < shape[0] and 0 <= place[1] < shape[1]:
                struck[place] = charge
    return struck


def _image_set(electrons: np.ndarray, time: float, index: int, number: int, raw: bool) -> list[fits.ImageHDU]:
    header = fits.Header({"BUNIT": "COUNTS", "EXPTIME": time, "EXPSTART": 51453.3 + 0.05 * number + 0.01 * index})
    header.update({"CTYPE1": "WAVE", "CTYPE2": "ANGLE", "CRVAL1": 4961.0, "CD1_1": 0.552, "CD2_2": 1.4e-5})
    header.update({"RA_APER": 40.66969 - 0.00005 * number, "DEC_APER": -0.0133, "PA_APER": -142.0})
    if not raw:
        flags = np.zeros(electrons.shape, np.int16)
        return [fits.ImageHDU(electrons.astype(np.float32), header, name="SCI"), fits.ImageHDU(flags, name="DQ")]
    counts = np.random.default_rng([number, index, 9]).normal(BIAS, NOISE, RAW_SHAPE)
    counts[LIT] = electrons + BIAS
    return [fits.ImageHDU(np.clip(np.rint(counts), 0, 65535).astype(np.uint16), header, name="SCI")]


def _numbered(image_set: list[fits.ImageHDU], version: int) -> list[fits.ImageHDU]:
    for hdu in image_set:
        hdu.ver = version
    return image_set
