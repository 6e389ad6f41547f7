"""Do the gates stop a network that has learnt nothing? The rehearsal of a recipe, trained on labels of other stamps.

The CR masks of its training and validation stamps are dealt out anew within each exposure, those of the test stamps stay as
they are. Everything else is as in `deepcr-zoo train RECIPE --rehearse`. Exit code 1: the network passes its gates.

    python benchmarks/shuffled_labels.py
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from synthetic_visits import CACHE

import deepcr_zoo
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.stampfiles import stamps_of
from deepcr_zoo.dataset.store import MANIFEST_FILE, DatasetVisit, Home, write_document, write_tensors
from deepcr_zoo.machine import processors
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe


def with_shuffled_labels(dataset: Dataset, folder: Path, seed: int) -> Dataset:
    """A copy of a training set in which the training visits' CR masks belong to other stamps of the same exposure."""
    home = Home(folder)
    random = np.random.default_rng(seed)
    visits = [_copied(visit, dataset.home, home, random) for visit in dataset.manifest.visits]
    copy = home.dataset(dataset.manifest.name, dataset.manifest.key)
    copy.mkdir(parents=True, exist_ok=True)
    write_document(copy / MANIFEST_FILE, dataset.manifest.model_copy(update={"visits": visits}))
    return Dataset.open(copy)


def _copied(visit: DatasetVisit, source: Home, home: Home, random: np.random.Generator) -> DatasetVisit:
    folder = home.visit(visit.record.key)
    shutil.copytree(source.visit(visit.record.key), folder, dirs_exist_ok=True)
    if visit.split == "test":
        return visit
    exposures = []
    for exposure in visit.record.exposures:
        path = folder / exposure.stamps.name
        tensors = stamps_of(home, visit.record, exposure).read()
        tensors["cosmic_rays"] = tensors["cosmic_rays"][random.permutation(exposure.count)]
        exposures.append(exposure.model_copy(update={"stamps": write_tensors(path, tensors, {})}))
    return visit.model_copy(update={"record": visit.record.model_copy(update={"exposures": exposures})})


def main() -> None:
    """Train, judge, and say which gates stop the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="acs-wfc-f606w-2-4")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffle")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the training set with shuffled labels is kept")
    options = parser.parse_args()
    path = find_recipe(options.recipe)
    built = build_dataset(read_recipe(path), rehearse=True, jobs=processors())
    shuffled = with_shuffled_labels(built, options.cache / "shuffled", options.seed)
    run = deepcr_zoo.train(path, dataset=shuffled, rehearse=True, jobs=processors())
    (verdict,) = run.results().verdicts
    print(f"{run.folder}: {'passes' if verdict.passes else 'fails'}")
    for gate in verdict.gates:
        field_type = (gate.field_type or "").replace("_", " ")
        print(f"| {gate.gate} | {field_type} | {gate.measured} | {gate.bound} | {gate.verdict} |")
    raise SystemExit(verdict.passes)


if __name__ == "__main__":
    main()
