"""Sky levels at which the networks for ACS/WFC do well: simulated scenes at skies of -100 to 10,000 e-.

The sky of a simulated exposure is replaced and its noise drawn anew. Two series: a sky of its own, and a sky of 40 e- whose
level is then shifted, as a subtraction does. Masks are the true cosmic rays.

    python benchmarks/skyrange.py [--record]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from networks import inpainter, mask_model
from scipy import ndimage

from deepcr_zoo.errors import ImageWarning
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import medmask
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.records import MeasuredOn, SkyRecord, append
from deepcr_zoo.zoo.registries import default_registry

INPAINTING = {"acs-wfc-f606w": ("inpaint/ACS-WFC-F606W-2-32@1.0", "inpaint/ACS-WFC-F606W-3-32@1.0")}
MASKS = {
    "acs-wfc-f606w": (
        "mask/ACS-WFC-2-32@1.0",
        "mask/ACS-WFC-F435W-2-32@1.0",
        "mask/ACS-WFC-F606W-2-32@1.0",
        "mask/ACS-WFC-F606W-2-32@2.0",
        "mask/ACS-WFC-F606W-2-4@1.0",
        "mask/ACS-WFC-F814W-2-32@1.0",
    ),
}
OWN_SKIES = (0, 2, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 300, 450, 600, 800, 1000, 1500, 2000, 4000, 10_000)
SUBTRACTED = (-100, -50, -20, -10, -5, 0, 5, 10, 15, 20, 30)
TRUE_SKY = 40
"""e-, before the subtraction; a usual exposure of ACS/WFC has as much."""

SIDE, SECONDS, READ_NOISE = 512, 400.0, 4.1
COVERED, CLEAN, FOUND = 20.0, 0.5, 3.0
"""A mask for inpainting covers pixels with more than this many e- of cosmic rays, and their neighbours; clean pixels have
less, in units of their noise, and pixels that a network should find have more."""

MOST_BIAS = 0.5
MOST_ERROR = 1.0
INPAINT_RULE = (
    f"median error within {MOST_BIAS:g} of the noise of a pixel, and rms error (in units of the noise, cut at 50) at most "
    f"{MOST_ERROR:g} times that of the 5x5 masked median, at this level and at all between it and {TRUE_SKY} e-"
)
LEAST_TPR, MOST_FPR = 0.8, 0.005
MASK_RULE = (
    f"at the card's threshold a TPR of at least {LEAST_TPR:g} times that at {TRUE_SKY} e- and an FPR of at most "
    f"{100 * MOST_FPR:g} %, at this level and at all between it and {TRUE_SKY} e-"
)


@dataclass(frozen=True)
class Scene:
    """A simulated field without sky and noise, and its cosmic rays, e-, shape (H, W)."""

    light: np.ndarray
    hits: np.ndarray

    def drawn(self, sky: int, level: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image without cosmic rays, what it would be without noise, and the noise, at a sky shifted to `level`."""
        rng = np.random.default_rng([seed, sky])
        truth = self.light + sky
        image = rng.poisson(truth) + rng.normal(0, READ_NOISE, truth.shape)
        return (image + level - sky).astype(np.float32), truth + level - sky, np.sqrt(truth + READ_NOISE**2)


@cache
def scenes(recipe: str, seeds: tuple[int, ...]) -> list[Scene]:
    """One scene of each field type and seed."""
    instrument = simulated(read_recipe(find_recipe(recipe)).instrument)
    found = []
    for field_type in SIMULATED_FIELD_TYPES:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                path = write_visit(SimulatedVisit(instrument, field_type, seed, 1, SECONDS, SIDE), Path(folder))[0]
                truth, sky = read_truth(truth_path(path))[0], fits.getheader(path, 1)["MDRIZSKY"]
            found.append(Scene(np.maximum(truth.scene - sky, 0).astype(float), truth.cosmic_rays))
    return found


@dataclass(frozen=True)
class Series:
    """Levels at which a model was judged, and whether each passes."""

    levels: Sequence[int]
    passes: Sequence[bool]


def limits(series: Sequence[Series]) -> tuple[int | None, int | None]:
    """The lowest and the highest level of the unbroken range around `TRUE_SKY`; None where it ends with the levels."""
    levels = sorted({level for one in series for level in one.levels})
    good = {level: all(one.passes[one.levels.index(level)] for one in series if level in one.levels) for level in levels}
    below = [level for level in levels if level <= TRUE_SKY][::-1]
    above = [level for level in levels if level >= TRUE_SKY]
    return _last_good(below, good), _last_good(above, good)


def _last_good(levels: Sequence[int], good: dict[int, bool]) -> int | None:
    failed = next((place for place, level in enumerate(levels) if not good[level]), None)
    if failed == 0:
        raise SystemExit(f"it fails at {TRUE_SKY} e- already")
    return None if failed is None else levels[failed - 1]


def inpainting_errors(fill: Callable[..., np.ndarray], fields: Sequence[Scene], sky: int, level: int) -> np.ndarray:
    """Median error in e-, the same in units of the noise, and rms error in units of the noise."""
    errors, relative = [], []
    for seed, scene in enumerate(fields):
        image, truth, noise = scene.drawn(sky, level, seed)
        mask = ndimage.binary_dilation(scene.hits > COVERED, np.ones((3, 3)))
        error = (fill(image, mask) - truth)[mask]
        errors.append(error)
        relative.append(error / noise[mask])
    error, ratio = np.concatenate(errors), np.concatenate(relative)
    return np.array([np.median(error), np.median(ratio), np.sqrt(np.mean(np.clip(ratio, -50, 50) ** 2))])


def mask_rates(find: Callable[..., np.ndarray], fields: Sequence[Scene], sky: int, level: int) -> np.ndarray:
    """TPR and FPR."""
    counts = np.zeros(4)
    for seed, scene in enumerate(fields):
        image, _, noise = scene.drawn(sky, level, seed)
        found = find(image + scene.hits)
        real = scene.hits > FOUND * noise
        clean = ~ndimage.binary_dilation(scene.hits > CLEAN * noise, np.ones((3, 3)))
        counts += [found[real].sum(), real.sum(), found[clean].sum(), clean.sum()]
    return np.array([counts[0] / counts[1], counts[2] / counts[3]])


def print_head(columns: Iterable[str]) -> None:
    """Print the first two lines of a table."""
    names = ["series", "sky level, e-", *columns]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


PLACES = (("own sky", OWN_SKIES), ("subtracted", SUBTRACTED))


def judge_inpainting(recipe: str, names: Sequence[str], seeds: tuple[int, ...]) -> dict[str, tuple[int | None, int | None]]:
    """Print a table; return the limits of each network."""
    fields = scenes(recipe, seeds)
    fills = {name: inpainter(name).fill for name in names}
    methods: dict[str, Callable[..., np.ndarray]] = {**fills, "medmask": medmask}
    print_head(f"{name}: bias, e- (in noise) / rms in noise" for name in methods)
    verdicts: dict[str, list[Series]] = {name: [] for name in names}
    for label, levels in PLACES:
        passes: dict[str, list[bool]] = {name: [] for name in names}
        for level in levels:
            sky = level if label == "own sky" else TRUE_SKY
            found = {name: inpainting_errors(fill, fields, sky, level) for name, fill in methods.items()}
            for name in names:
                good = abs(found[name][1]) <= MOST_BIAS and found[name][2] <= MOST_ERROR * found["medmask"][2]
                passes[name].append(bool(good))
            cells = [f"{bias:+.1f} ({ratio:+.2f}) / {rms:.2f}" for bias, ratio, rms in found.values()]
            print(f"| {label} | {level} | {' | '.join(cells)} |", flush=True)
        for name in names:
            verdicts[name].append(Series(levels, passes[name]))
    return {name: limits(series) for name, series in verdicts.items()}


def judge_masks(recipe: str, names: Sequence[str], seeds: tuple[int, ...]) -> dict[str, tuple[int | None, int | None]]:
    """Print a table; return the limits of each network."""
    fields = scenes(recipe, seeds)
    finds = {name: mask_model(name).mask for name in names}
    print_head(f"{name}: TPR / FPR, %" for name in names)
    usual = {name: mask_rates(find, fields, TRUE_SKY, TRUE_SKY) for name, find in finds.items()}
    verdicts: dict[str, list[Series]] = {name: [] for name in names}
    for label, levels in PLACES:
        passes: dict[str, list[bool]] = {name: [] for name in names}
        for level in levels:
            sky = level if label == "own sky" else TRUE_SKY
            found = {name: mask_rates(find, fields, sky, level) for name, find in finds.items()}
            for name, (tpr, fpr) in found.items():
                passes[name].append(bool(tpr >= LEAST_TPR * usual[name][0] and fpr <= MOST_FPR))
            cells = [f"{100 * tpr:.1f} / {100 * fpr:.3f}" for tpr, fpr in found.values()]
            print(f"| {label} | {level} | {' | '.join(cells)} |", flush=True)
        for name in names:
            verdicts[name].append(Series(levels, passes[name]))
    return {name: limits(series) for name, series in verdicts.items()}


def main() -> None:
    """Measure, print Markdown tables, and record the ranges beside the cards if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--task", choices=["mask", "inpaint"], default="inpaint")
    parser.add_argument("--record", action="store_true", help="write ranges into the results beside the cards")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ImageWarning)  # of levels out of the range
    software = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "torch", "numpy"))
    command = " ".join(["python benchmarks/skyrange.py", *sys.argv[1:]])
    print(f"{datetime.date.today()}, {processor_name()}, 1 thread, Python {platform.python_version()}, {software}")
    print(f"\n`{command}`\n")
    judge, chosen, rule = (
        (judge_inpainting, INPAINTING, INPAINT_RULE) if options.task == "inpaint" else (judge_masks, MASKS, MASK_RULE)
    )
    for recipe, names in chosen.items():
        found = judge(recipe, names, tuple(options.seeds))
        print()
        for name, (lowest, highest) in found.items():
            print(f"{name}: {lowest} to {highest} e-")
            if options.record:
                record = SkyRecord(
                    date=datetime.date.today(),
                    software=software,
                    command=command,
                    machine=processor_name(),
                    data=MeasuredOn(
                        kind="synthetic",
                        description=f"simulated scenes of {recipe}, {SECONDS:g} s, {SIDE} x {SIDE} pixels, one of each "
                        f"field type and seed, read noise {READ_NOISE:g} e-, skies {SUBTRACTED[0]} to {OWN_SKIES[-1]:,} e-",
                    ),
                    simulator_version=VERSION,
                    seeds=options.seeds,
                    rule=rule,
                    lowest=lowest,
                    highest=highest,
                )
                print(append(default_registry().resolve(name), record))


if __name__ == "__main__":
    main()
