"""What a rehearsal teaches a mask network, and what its parts are worth, judged on visits simulated for this alone.

A recipe's rehearsal is trained as it is, for several seeds, and, for the first of them, without sky augmentation and without
the frozen phase: with its running statistics as they came out, and with statistics recomputed over the whole training set,
so that the comparison is fair. All are judged against AstroDrizzle's mask on the same fresh visits, as they are and with
other sky levels.

    python benchmarks/rehearsal.py
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from synthetic_visits import CACHE, PACKAGES, command, words
from torch import nn

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.judgedpixels import check_input, judged_stamps
from deepcr_zoo.bench.measures.roc import RocCounts
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.model import MaskModel, load_files
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.weights import serialise, trained_network
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.training.objectives import Feed
from deepcr_zoo.training.pipeline import train
from deepcr_zoo.training.randomness import order
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, FieldType, Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

FPRS = (0.0005, 0.005)
SKY_SHIFTS = (0.0, -0.9, 3.0)
"""Multiples of the sky level that are added: none, and the ends of the range of Zhang & Bloom 2020, Eq. 4."""

WANTED = {"extragalactic": (0.80, 0.94), "globular_cluster": (0.72, 0.91), "resolved_galaxy": (0.54, 0.78)}
"""TPR at these FPRs that the rehearsal of ACS-WFC-F606W-2-4 shall reach."""

FROZEN, UNFROZEN, NO_SKY = "as the recipe says", "no frozen phase", "no sky augmentation"
RECOMPUTED = "no frozen phase, statistics recomputed"
BATCH = 16
RECOMPUTED_OVER = (1, 2, 3)
"""Epochs."""


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes
    ----------
    name : str
    settings : tuple of str
        Overrides of the recipe.
    """

    name: str
    settings: tuple[str, ...]


def variants(recipe: Recipe) -> list[Variant]:
    """The rehearsal, and what it would be without one of its parts."""
    schedule = recipe.rehearsal.schedule
    never = f"rehearsal.schedule.freeze_after_epochs={schedule.max_epochs}"
    return [Variant(FROZEN, ()), Variant(NO_SKY, ("train.augmentation.sky=null",)), Variant(UNFROZEN, (never,))]


def recomputed(run: Run) -> MaskModel:
    """The model of a run with the mean statistics of all batches of three epochs."""
    architecture, task = run.recipe.train.architecture, run.recipe.task
    network = trained_network((run.folder / "model.safetensors").read_bytes(), architecture, task, str(run.folder))
    feed = Feed(run.recipe, open_stamps(run.dataset(), "train", torch.device("cpu")))
    _recompute(network, feed)
    card = run.card()
    without = card.model_copy(update={"input": card.input.model_copy(update={"fingerprint": None})})
    model = load_files(serialise(network.state_dict()), without, architecture, f"{run.reference}, recomputed", "cpu")
    assert isinstance(model, MaskModel)
    return model


def _recompute(network: UNet, feed: Feed) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    network.train()
    with torch.no_grad():
        for epoch in RECOMPUTED_OVER:  # shuffled and varied as in training
            for numbers in torch.split(order(feed.recipe.train.seed, epoch, len(feed)), BATCH):
                network(feed.examples(numbers, epoch).input)
    network.eval()


def judge(model: MaskModel, dataset: Dataset, field_type: FieldType, alpha: float) -> RocCounts:
    """Count the test stamps with `alpha` times their sky level added to the image (Zhang & Bloom 2020, Eq. 3)."""
    check_input(model)
    return roc.merge(
        roc.count(model.logits(one.image + np.float32(alpha * one.group.exposure.sky_electron)), one.cosmic_rays, one.ignore)
        for one in judged_stamps(dataset, field_type)
    )


def rates(model: MaskModel, dataset: Dataset, alpha: float) -> dict[str, tuple[float, ...]]:
    """TPR at each FPR, by field type."""
    found: dict[str, tuple[float, ...]] = {}
    for field_type in SIMULATED_FIELD_TYPES:
        curve = judge(model, dataset, field_type, alpha).curve()
        points = [curve.at_fpr(fpr) for fpr in FPRS]
        found[field_type] = tuple(point.tpr for point in points if point)
    return found


def row(name: str, seed: int, alpha: float, found: dict[str, tuple[float, ...]], wanted: bool) -> str:
    """A line of the table."""
    sky = "native" if alpha == 0 else f"{alpha:+g} x sky"
    cells = [
        name,
        str(seed),
        sky,
        *(" / ".join(f"{100 * tpr:.1f}" for tpr in found[kind]) for kind in SIMULATED_FIELD_TYPES),
    ]
    verdict = "-"
    if wanted:
        reached = all(
            tpr >= least for kind in SIMULATED_FIELD_TYPES for tpr, least in zip(found[kind], WANTED[kind], strict=True)
        )
        verdict = "yes" if reached else "**no**"
    return f"| {' | '.join([*cells, verdict])} |"


def trained(path: Path, variant: Variant, seed: int, options: argparse.Namespace) -> Run:
    """A run of a variant; one of an earlier call is taken as it is, if it is of the same recipe."""
    settings = (f"train.seed={seed}", f"rehearsal.seed={1000 * seed}", *variant.settings)
    recipe = read_recipe(path, settings).rehearsed
    for folder in sorted((options.runs / recipe.name).glob("*")):
        if (run := Run.open(folder)).recipe == recipe and run.is_finished:
            return run
    return train(
        path, rehearse=True, runs=options.runs, jobs=options.jobs, device="cpu", settings=settings, command=command()
    )


def judged(run: Run, variant: Variant) -> Iterator[tuple[str, MaskModel]]:
    """The models of a run that stand in the table."""
    model = run.model("cpu")
    assert isinstance(model, MaskModel)
    yield variant.name, model
    if variant.name == UNFROZEN:
        yield RECOMPUTED, recomputed(run)


def heading(options: argparse.Namespace) -> str:
    """When, where and with what."""
    versions = ", ".join(f"{name} {version(name)}" for name in (*PACKAGES, "torch"))
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, Python {platform.python_version()}"
    judged_on = f"judged on {options.test_visits} visits of each field type, seeds from {options.test_seed} up"
    return f"{datetime.date.today()}, {machine}, {versions}\n\n`{command()}`: simulator version {VERSION}, {judged_on}\n"


def main() -> None:
    """Run the benchmark and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="acs-wfc-f606w-2-4")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of training; visits start at 1000 x seed")
    parser.add_argument("--test-seed", type=int, default=7000, help="of the first visit that they are judged on")
    parser.add_argument("--test-visits", type=int, default=3, help="of each field type")
    parser.add_argument("--variants", nargs="+", default=[FROZEN, UNFROZEN, NO_SKY], choices=[FROZEN, UNFROZEN, NO_SKY])
    parser.add_argument("--jobs", type=int, default=2, help="visits that are labelled at a time")
    parser.add_argument("--runs", type=Path, default=CACHE / "runs")
    parser.add_argument("--data", type=Path, default=CACHE / "data", help="where training sets are kept")
    options = parser.parse_args()
    os.environ["DEEPCR_ZOO_DATA"] = str(options.data.absolute())
    path = find_recipe(options.recipe)
    recipe = read_recipe(path)
    fresh = read_recipe(
        path, (f"rehearsal.seed={options.test_seed}", f"rehearsal.visits={{train: 1, test: {options.test_visits}}}")
    )
    test = build_dataset(fresh, rehearse=True, jobs=options.jobs)
    print(heading(options))
    columns = [
        "trained",
        "seed",
        "sky of the test images",
        *(f"{words(kind)}, TPR in %" for kind in SIMULATED_FIELD_TYPES),
        "as wanted",
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    times = []
    for variant in [one for one in variants(recipe) if one.name in options.variants]:
        for seed in options.seeds if variant.name == FROZEN else options.seeds[:1]:
            run = trained(path, variant, seed, options)
            seconds = [record.seconds for record in run.history()]
            times.append(f"| {variant.name} | {seed} | {len(seconds)} | {sum(seconds):.0f} |")
            for name, model in judged(run, variant):
                for alpha in SKY_SHIFTS:
                    wanted = name == FROZEN and alpha == 0 and options.recipe == "acs-wfc-f606w-2-4"
                    print(row(name, seed, alpha, rates(model, test, alpha), wanted), flush=True)
    print("\n| trained | seed | epochs | s of training, validation not counted |\n|---|---|---|---|")
    print("\n".join(times))


if __name__ == "__main__":
    main()
