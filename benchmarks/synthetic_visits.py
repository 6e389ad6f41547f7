"""Simulated visits with AstroDrizzle's labels and the truth, made once and kept: what labels.py and realism.py judge on."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import multiprocessing
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deepcr_zoo import locations
from deepcr_zoo.bench.results import Data, PixelCounts
from deepcr_zoo.dataset.coverage import GoodPixels, seen_by_others
from deepcr_zoo.dataset.drizzle import drizzle_visit
from deepcr_zoo.dataset.exposures import ChipPixels, read_chips, read_facts
from deepcr_zoo.dataset.ignore import ignore_mask, quality_bits
from deepcr_zoo.exposures.usablepixels import has_bits
from deepcr_zoo.files import sha256_of
from deepcr_zoo.machine import processor_name
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.simulate.truth import Truth, read_truth, truth_path
from deepcr_zoo.zoo.recipe import (
    RESERVED_SEED,
    SIMULATED_FIELD_TYPES,
    InstrumentBlock,
    Recipe,
    SimulatedFieldType,
)
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.recipeinstruments import detector_of
from deepcr_zoo.zoo.records import POOLED

# as in test visits of Zhang & Bloom 2020, Table 1: 13671-44, 10775-09 (of two), 10190-28
EXPOSURES: dict[SimulatedFieldType, int] = {"extragalactic": 3, "globular_cluster": 5, "resolved_galaxy": 4}
EXPOSURE_TIME_S: dict[SimulatedFieldType, float] = {
    "extragalactic": 400.0,
    "globular_cluster": 350.0,
    "resolved_galaxy": 540.0,
}
PACKAGES = ("deepcr-zoo", "drizzlepac", "numpy", "scipy", "astropy")
CACHE = locations.PACKAGE.parent / ".benchmark-cache"
LABELS = "labels.npz"


@dataclass(frozen=True)
class JudgedChip:
    """A chip and what is known of it.

    Attributes
    ----------
    image : ndarray of float32, shape (H, W)
        e-.
    label, ignore : ndarray of bool, shape (H, W)
        AstroDrizzle's CR mask; pixels that do not count, as what no other exposure has seen, which has no label.
    truth : Truth
    """

    image: np.ndarray
    label: np.ndarray
    ignore: np.ndarray
    truth: Truth


@dataclass(frozen=True)
class LabelledVisit:
    """A simulated visit in the cache."""

    field_type: SimulatedFieldType
    seed: int
    folder: Path
    recipe: Recipe

    @property
    def exposures(self) -> list[Path]:
        """Its files, in order."""
        return sorted(self.folder.glob("*_flc.fits"))

    def chips(self) -> Iterator[JudgedChip]:
        """Every chip of every exposure."""
        block = self.recipe.build.ignore
        bits = quality_bits(block, detector_of(self.recipe.instrument))
        good = [
            [GoodPixels(~has_bits(chip.quality, bits.bad), chip.wcs) for chip in _chips(path, self.recipe.instrument)]
            for path in self.exposures
        ]
        with np.load(self.folder / LABELS) as labels:
            for index, path in enumerate(self.exposures):
                others = [chip for other, chips in enumerate(good) if other != index for chip in chips]
                chips = zip(_chips(path, self.recipe.instrument), good[index], read_truth(truth_path(path)), strict=True)
                for chip, own, truth in chips:
                    ignore = ignore_mask(chip, bits, block) | ~seen_by_others(own, others)
                    yield JudgedChip(chip.image, labels[_key(index, chip.version)], ignore, truth)


def _chips(path: Path, instrument: InstrumentBlock) -> list[ChipPixels]:
    (facts,) = read_facts(path, instrument)
    return read_chips(facts, instrument)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both scripts."""
    parser.add_argument("--recipe", default="acs-wfc-f606w", help="whose instrument is simulated, and labelled as it says")
    parser.add_argument("--seeds", type=int, nargs="+", default=[500, 501, 502], help="a visit of each field type per seed")
    parser.add_argument(
        "--side", type=int, default=1024, help="exposures are cut-outs of so many pixels a side; 0: full frames"
    )
    parser.add_argument("--jobs", type=int, default=1, help="visits at a time")
    parser.add_argument("--independent", action="store_true", help="allow seeds on which nothing was tuned or trained")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the visits are kept")
    parser.add_argument("--results", type=Path, help="write a results.json there")


def labelled_visits(options: argparse.Namespace) -> list[LabelledVisit]:
    """The visits of all field types and seeds: simulated and drizzled, or as they were left by an earlier run."""
    reserved = [seed for seed in options.seeds if seed >= RESERVED_SEED]
    if reserved and not options.independent:
        raise SystemExit(f"--seeds {reserved[0]}: seeds from {RESERVED_SEED} up are reserved for --independent evaluation")
    recipe = read_recipe(find_recipe(options.recipe))
    planned = [
        _planned(recipe, name, seed, options.side or None) for name in SIMULATED_FIELD_TYPES for seed in options.seeds
    ]
    make = partial(_made, recipe=recipe, cache=options.cache)
    # processes of their own even for one job: what a simulation has in memory shall not stay
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        visits = []
        for visit, folder in zip(planned, pool.map(make, planned), strict=True):
            visits.append(LabelledVisit(visit.field_type, visit.seed, folder, recipe))
            print(f"{visit.field_type}, seed {visit.seed}: {folder}", file=sys.stderr)
    return visits


def description(options: argparse.Namespace, labels: str, pixels: dict[str, PixelCounts]) -> Data:
    """What the visits are, for a results.json."""
    size = f"cut-outs of {options.side} x {options.side} pixels" if options.side else "full frames"
    visits = "; ".join(
        f"{words(name)}: {EXPOSURES[name]} exposures of {EXPOSURE_TIME_S[name]:g} s per seed"
        for name in SIMULATED_FIELD_TYPES
    )
    return Data(
        kind="synthetic",
        description=f"visits by the instrument block of {options.recipe}, {size}; {visits}",
        labels=labels,
        ignored="DQ flags but for saturation and cosmic rays; saturated pixels and those near (the recipe's build.ignore); "
        "what no other exposure has seen",
        simulator_version=VERSION,
        seeds=options.seeds,
        pixels=pixels,
    )


def exposures_of(visits: list[LabelledVisit], field_type: str) -> int:
    """Exposures of a field type, or of all of them together."""
    return sum(len(visit.exposures) for visit in visits if field_type in (visit.field_type, POOLED))


def astrodrizzle(recipe: Recipe) -> str:
    """What made the labels."""
    settings = ", ".join(f"{name} {value}" for name, value in recipe.build.drizzle.model_dump().items())
    return f"AstroDrizzle of drizzlepac {version('drizzlepac')}, {settings}"


def heading(packages: tuple[str, ...], options: argparse.Namespace) -> str:
    """When, where and with what, and the command that does it again."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {versions}\n\n"
        f"`{command()}`: simulator version {VERSION}, seeds {', '.join(map(str, options.seeds))}\n"
    )


def command() -> str:
    """The command that was given."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def words(field_type: str) -> str:
    """A field type as people write it."""
    return field_type.replace("_", " ")


def _planned(recipe: Recipe, field_type: SimulatedFieldType, seed: int, side: int | None) -> SimulatedVisit:
    return SimulatedVisit(
        simulated(recipe.instrument), field_type, seed, EXPOSURES[field_type], EXPOSURE_TIME_S[field_type], side
    )


def _made(visit: SimulatedVisit, recipe: Recipe, cache: Path) -> Path:
    """The visit's folder: exposures, truth and labels, or nothing at all if this is killed."""
    facts = {**asdict(visit), "instrument": visit.instrument.model_dump(), "drizzle": recipe.build.drizzle.model_dump()}
    facts |= {"simulator": VERSION, "drizzlepac": version("drizzlepac"), "sources": _sources_sha256()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    done = cache / f"{visit.field_type}-{visit.seed}-{digest}"
    if done.is_dir():
        return done
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=cache))
    try:
        exposures = sorted(write_visit(visit, unfinished))
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            bits = quality_bits(recipe.build.ignore, detector_of(recipe.instrument))
            log = unfinished / "drizzle.log"
            files = [(path, sha256_of(path)) for path in exposures]
            drizzled = drizzle_visit(files, Path(scratch), recipe.build.drizzle, bits.kept, None, log)
            masks: dict[str, Any] = {
                _key(index, chip.version): drizzled.label(index, chip.version)[0]
                for index, path in enumerate(exposures)
                for chip in _chips(path, recipe.instrument)
            }
        np.savez_compressed(unfinished / LABELS, **masks)
        unfinished.rename(done)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return done


def _sources_sha256() -> str:
    """Hash of the code that makes a visit: while it is worked on, its version says too little."""
    sources = [*sorted((locations.PACKAGE / "simulate").glob("*.py")), locations.PACKAGE / "dataset" / "drizzle.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _key(exposure: int, chip: int) -> str:
    return f"{exposure}_{chip}"
