"""How good AstroDrizzle's labels are: its CR mask against the truth of simulated visits.

A pixel is a cosmic ray in truth where cosmic rays left more than 3 x the sigma of its noise. Ignored pixels do not count.

    python benchmarks/labels.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
from spreads import Spread, spread
from synthetic_visits import (
    PACKAGES,
    LabelledVisit,
    add_options,
    command,
    description,
    exposures_of,
    heading,
    labelled_visits,
    words,
)

from deepcr_zoo.bench.results import PixelCounts
from deepcr_zoo.files import write_atomically
from deepcr_zoo.machine import processor_name
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from deepcr_zoo.zoo.records import POOLED

SIGMAS = 3.0
WANTED_TPR = {"extragalactic": 0.95, "globular_cluster": 0.90, "resolved_galaxy": 0.80}
WANTED_FPR = 0.0015

Confusion = np.ndarray
"""Pixels (int64): masked cosmic-ray ones, all cosmic-ray ones, masked clean ones, all clean ones, ignored ones."""


def confusion(visit: LabelledVisit) -> Confusion:
    """Count the pixels of a visit."""
    counts = np.zeros(5, dtype=np.int64)
    for chip in visit.chips():
        hit, counted = chip.truth.cosmic_rays > SIGMAS * chip.truth.noise, ~chip.ignore
        classes = (hit & chip.label & counted, hit & counted, ~hit & chip.label & counted, ~hit & counted, chip.ignore)
        counts += [np.count_nonzero(pixels) for pixels in classes]
    return counts


@dataclass(frozen=True)
class MaskRates:
    """TPR and FPR of all visits together, and over them."""

    tpr: float
    fpr: float
    tpr_spread: Spread | None
    fpr_spread: Spread | None


def together(counts: Iterable[Confusion]) -> Confusion:
    """Add counts up."""
    return np.asarray(np.sum(list(counts), axis=0))


def rates(visits: dict[int, Confusion]) -> MaskRates:
    """Return the rates of the visits of each seed."""
    pooled = together(visits.values())
    return MaskRates(
        tpr=pooled[0] / pooled[1],
        fpr=pooled[2] / pooled[3],
        tpr_spread=spread([one[0] / one[1] for one in visits.values()]),
        fpr_spread=spread([one[2] / one[3] for one in visits.values()]),
    )


def row(name: str, mask: MaskRates) -> tuple[str, bool]:
    """Return a line of the table, and whether the label is good enough."""

    def cell(pooled: float, several: Spread | None, digits: int) -> str:
        if several is None:
            return f"{pooled:.{digits}f}"
        each = ", ".join(f"{value:.{digits}f}" for value in several.values)
        return f"{several.mean:.{digits}f} ± {several.standard_error:.{digits}f} ({each})"

    tpr, fpr = (one.mean if one else pooled for one, pooled in ((mask.tpr_spread, mask.tpr), (mask.fpr_spread, mask.fpr)))
    good = tpr >= WANTED_TPR[name] and fpr <= WANTED_FPR
    cells = [
        words(name),
        cell(mask.tpr, mask.tpr_spread, 4),
        f"{WANTED_TPR[name]:.2f}",
        cell(mask.fpr, mask.fpr_spread, 5),
        f"{WANTED_FPR:.4f}",
        "yes" if good else "**no**",
    ]
    return f"| {' | '.join(cells)} |", good


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    visits = labelled_visits(options)
    counts: dict[str, dict[int, Confusion]] = {
        name: {one.seed: confusion(one) for one in visits if one.field_type == name} for name in SIMULATED_FIELD_TYPES
    }
    pooled = {seed: together(counts[name][seed] for name in SIMULATED_FIELD_TYPES) for seed in options.seeds}
    by_name = {**counts, POOLED: pooled}
    results = {name: rates(by_seed) for name, by_seed in by_name.items()}

    print(heading(PACKAGES, options))
    print("| field type | TPR, mean ± standard error (each seed) | at least | FPR | at most | good enough |")
    print("|---|---|---|---|---|---|")
    verdicts = []
    for name in SIMULATED_FIELD_TYPES:
        line, good = row(name, results[name])
        print(line)
        verdicts.append(good)
    if options.results:
        totals = {name: together(by_seed.values()) for name, by_seed in by_name.items()}
        pixels = {
            name: PixelCounts(
                exposures=exposures_of(visits, name),
                pixels=int(total[1] + total[3] + total[4]),
                cosmic_rays=int(total[1]),
                ignored=int(total[4]),
            )
            for name, total in totals.items()
        }
        truth = f"the truth: cosmic rays left more than {SIGMAS:g} x the sigma of the noise"
        written = {
            "date": str(datetime.date.today()),
            "command": command(),
            "machine": processor_name(),
            "software": {name: version(name) for name in PACKAGES},
            "data": description(options, truth, pixels).model_dump(mode="json"),
            "drizzle": visits[0].recipe.build.drizzle.model_dump(mode="json"),
            "fields": {name: asdict(one) for name, one in results.items()},
        }
        write_atomically(json.dumps(written, indent=1).encode(), options.results)
    sys.exit(not all(verdicts))


if __name__ == "__main__":
    main()
