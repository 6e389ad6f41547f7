"""How good the labels of dithers are: against the truth of ground visits, and beside AstroDrizzle on visits of HST.

A pixel is a cosmic ray in truth where cosmic rays left more than 3 x the sigma of its noise. Ignored pixels do not count.

    python benchmarks/dithers.py                       ground visits (ground_visits.py)
    python benchmarks/dithers.py --seeds 700 --hst     and visits of ACS/WFC, with AstroDrizzle's labels (extra build)
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ground_visits import READ_NOISE_ELECTRON, SECONDS, Conditions, Exposure, simulate
from spreads import spread
from synthetic_visits import CACHE, JudgedChip, LabelledVisit, add_options, labelled_visits

from deepcr_zoo.dataset.dithers import DitheredExposure, DitherLabel, label_dithers
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.starmatching import Frame, align
from deepcr_zoo.machine import processor_name
from deepcr_zoo.zoo.recipe import RESERVED_SEED, DithersBlock

SIGMAS = 3.0
WANTED_FPR = 0.0015
SPARSE = Conditions()
VISITS = {
    "sparse, 5 exposures": (SPARSE, 0.95),
    "sparse, 3 exposures": (replace(SPARSE, exposures=3), 0.95),
    "sparse, seeing 2.4 to 4.6 pixels": (replace(SPARSE, stars=300, fwhm_pixels=(2.4, 4.6)), 0.95),
    "sparse, undersampled": (replace(SPARSE, fwhm_pixels=(1.6, 2.0)), 0.95),
    "crowded, 5 exposures": (replace(SPARSE, stars=12_000), 0.85),
    "crowded, seeing 2.4 to 4.6 pixels": (replace(SPARSE, stars=12_000, fwhm_pixels=(2.4, 4.6)), 0.85),
}
"""Conditions of the ground visits, and the least TPR."""

SATURATED = 70_000.0
SETTINGS = DithersBlock()


@dataclass(frozen=True)
class Counts:
    """Pixels: masked cosmic rays, cosmic rays, masked clean ones, clean ones, ignored, all."""

    pixels: np.ndarray

    @classmethod
    def of(cls, hit: np.ndarray, masked: np.ndarray, ignored: np.ndarray) -> Counts:
        """Count a chip."""
        counted = ~ignored
        classes = (hit & masked & counted, hit & counted, ~hit & masked & counted, ~hit & counted, ignored)
        return cls(np.array([*map(np.count_nonzero, classes), hit.size]))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.pixels + other.pixels)

    @property
    def rates(self) -> tuple[float, float, float]:
        """TPR, FPR and the share of ignored pixels."""
        found, hit, false, clean, ignored, total = self.pixels.tolist()
        return found / hit, false / clean, ignored / total


def label(exposures: list[DitheredExposure]) -> list[DitherLabel]:
    """Align and label."""
    frames = [Frame(one.image, one.usable, one.wcs) for one in exposures]
    reference, alignments = align(frames, SETTINGS.search_pixels, SETTINGS.min_stars)
    found = [one for one in alignments if one is not None]
    if len(found) < len(exposures):
        raise SystemExit(f"{len(exposures) - len(found)} exposures cannot be aligned")
    return label_dithers(exposures, found, reference, SETTINGS)


def judged(visit: list[Exposure]) -> Counts:
    """Label a ground visit and count its pixels."""
    labels = label([DitheredExposure(one.image, one.image < SATURATED, SECONDS, READ_NOISE_ELECTRON) for one in visit])
    counts = (
        Counts.of(one.cosmic_rays > SIGMAS * one.noise, found.cosmic_rays, found.ignore)
        for one, found in zip(visit, labels, strict=True)
    )
    return sum(counts, start=Counts(np.zeros(6, int)))


def cell(values: list[float], digits: int) -> str:
    """Mean and standard error, and each value, if there are several."""
    several = spread(values)
    if several is None:
        return f"{values[0]:.{digits}f}"
    return f"{several.mean:.{digits}f} ± {several.standard_error:.{digits}f}"


def on_the_ground(seeds: list[int]) -> bool:
    """Print the table of ground visits; return whether all labels are good enough."""
    print("| ground visits | TPR | at least | FPR | at most | ignored | good enough |")
    print("|---|---|---|---|---|---|---|")
    verdicts = []
    for name, (conditions, least) in VISITS.items():
        tpr, fpr, ignored = zip(*(judged(simulate(seed, conditions)).rates for seed in seeds), strict=True)
        verdicts.append(np.mean(tpr) >= least and np.mean(fpr) <= WANTED_FPR)
        cells = [name, cell(list(tpr), 4), f"{least:.2f}", cell(list(fpr), 5), f"{WANTED_FPR:.4f}"]
        print(f"| {' | '.join([*cells, f'{np.mean(ignored):.1%}', 'yes' if verdicts[-1] else '**no**'])} |", flush=True)
    return all(verdicts)


def beside_astrodrizzle(visits: list[LabelledVisit]) -> None:
    """Print the table of visits of HST."""
    print("\n| visits of HST | label | TPR | FPR | of AstroDrizzle's cosmic rays | of its clean pixels | ignored |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(one.field_type for one in visits):
        rows: dict[str, list[tuple[float, ...]]] = {"AstroDrizzle": [], "dithers": []}
        for visit in (one for one in visits if one.field_type == name):
            chips = list(visit.chips())
            labels = label([_dithered(visit, path, chip) for path, chip in zip(visit.exposures, chips, strict=True)])
            rows["AstroDrizzle"].append(_compared(chips, labels, [chip.label for chip in chips]))
            rows["dithers"].append(_compared(chips, labels, [one.cosmic_rays for one in labels]))
        for method, values in rows.items():
            cells = [cell([row[place] for row in values], digits) for place, digits in ((0, 4), (1, 5), (2, 4), (3, 5))]
            ignored = f"{np.mean([row[4] for row in values]):.1%}"
            print(f"| {name.replace('_', ' ')} | {method} | {' | '.join(cells)} | {ignored} |", flush=True)


def _compared(chips: list[JudgedChip], labels: list[DitherLabel], masks: list[np.ndarray]) -> tuple[float, ...]:
    """Rates against the truth and against AstroDrizzle, where neither label is ignored."""
    truth = agreement = Counts(np.zeros(6, int))
    for chip, found, mask in zip(chips, labels, masks, strict=True):
        ignored = chip.ignore | found.ignore
        truth += Counts.of(chip.truth.cosmic_rays > SIGMAS * chip.truth.noise, mask, ignored)
        agreement += Counts.of(chip.label, mask, ignored)
    return (*truth.rates[:2], *agreement.rates)


def _dithered(visit: LabelledVisit, path: Path, chip: JudgedChip) -> DitheredExposure:
    (facts,) = read_facts(path, visit.recipe.instrument)
    (pixels,) = read_chips(facts, visit.recipe.instrument)
    image = np.where(np.isfinite(chip.image), chip.image, np.float32(0))
    noise = facts.read_noise_or(visit.recipe.instrument.read_noise_electron)
    # what AstroDrizzle's other exposures have not seen is this method's to find
    usable = ~chip.ignore
    return DitheredExposure(image, usable, facts.exposure_time_s, noise, pixels.wcs)


def main() -> None:
    """Run the benchmark and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.set_defaults(seeds=[700, 701, 702], cache=CACHE)
    parser.add_argument("--hst", action="store_true", help="compare with AstroDrizzle too")
    parser.add_argument("--no-ground", action="store_true", help="leave out ground visits")
    options = parser.parse_args()
    if any(seed >= RESERVED_SEED for seed in options.seeds) and not options.independent:
        raise SystemExit(f"seeds from {RESERVED_SEED} up are reserved for --independent evaluation")
    packages = ("deepcr-zoo", "drizzle", "drizzlepac", "tweakwcs", "photutils", "numpy", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{datetime.date.today()}, {processor_name()}, two cores, Python {platform.python_version()}, {versions}\n")
    print(f"`python benchmarks/dithers.py {' '.join(sys.argv[1:])}`: seeds {', '.join(map(str, options.seeds))}\n")
    good = options.no_ground or on_the_ground(options.seeds)
    if options.hst:
        beside_astrodrizzle(labelled_visits(options))
    sys.exit(not good)


if __name__ == "__main__":
    main()
