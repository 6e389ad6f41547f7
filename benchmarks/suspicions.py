"""How often masks of simulated cosmic rays get a sentence that no cosmic rays make them (each is a false alarm).

Masks are the pixels that cosmic rays lift by 3 sigma of the noise, as drawn and with their neighbours.

    python benchmarks/suspicions.py
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo.exposures.suspicions import find_structures
from deepcr_zoo.machine import processor_name
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.cosmicrays import IN_ORBIT, Particles, cosmic_rays
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

SIDE = 512
TIMES_S = (10.0, 400.0, 2000.0)
MUONS_AND_ELECTRONS = Particles(electrons=0.5, helium=0.0, heavy=0.0)
"""On the ground: muons and the electrons that radioactive material frees, long in thick silicon."""

Frame = tuple[np.ndarray, np.ndarray]


def frames(seed: int) -> Iterator[tuple[str, Frame]]:
    """A name, and image and mask of a frame."""
    for recipe, field_type, seconds in product(("acs-wfc-f606w", "wfc3-uvis"), SIMULATED_FIELD_TYPES, TIMES_S):
        instrument = simulated(read_recipe(find_recipe(recipe)).instrument)
        with tempfile.TemporaryDirectory() as folder:
            path = write_visit(SimulatedVisit(instrument, field_type, seed, 1, seconds, SIDE), Path(folder))[0]
            truth = read_truth(truth_path(path))[0]
            image = fits.getdata(path, 1)
        name = f"{instrument.instrument}/{instrument.detector}, {field_type.replace('_', ' ')}, 10 to 2000 s"
        yield name, (image, truth.cosmic_rays > 3 * truth.noise)
    rng = np.random.default_rng(seed)
    acs = simulated(read_recipe(find_recipe("acs-wfc-f606w")).instrument)
    for silicon_um, seconds, shape in product(
        (16.0, 250.0, 500.0), (60.0, 1200.0), ((SIDE, SIDE), (2048, 1024), (200, 2048))
    ):
        instrument = acs.model_copy(update={"silicon_um": silicon_um, "cosmic_rays_per_cm2_s": 0.1})
        hits = cosmic_rays(shape, seconds, instrument, MUONS_AND_ELECTRONS, rng)
        image = rng.normal(40, 8, shape) + hits
        yield f"on the ground, silicon of {silicon_um:g} micrometres, 60 and 1200 s", (image, hits > 24)
    hits = cosmic_rays((2048, 4096), 1000.0, acs, IN_ORBIT, rng)
    yield "a whole chip of ACS/WFC, 1000 s", (rng.normal(40, 8, hits.shape) + hits, hits > 24)


def main() -> None:
    """Count sentences and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "numpy", "scipy"))
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {packages}")
    print(f"\n`python benchmarks/suspicions.py --seeds {' '.join(map(str, options.seeds))}`\n")
    found: dict[str, list[str]] = {}
    judged: dict[str, int] = {}
    for seed in options.seeds:
        for name, (image, mask) in frames(seed):
            for one in (mask, ndimage.binary_dilation(mask, np.ones((3, 3)))):
                judged[name] = judged.get(name, 0) + 1
                found.setdefault(name, []).extend(find_structures(one, image))
    print("| frames | masks | sentences |\n|---|---|---|")
    for name, number in judged.items():
        print(f"| {name} | {number} | {len(found[name])} {'; '.join(sorted({one[:60] for one in found[name]}))} |")


if __name__ == "__main__":
    main()
