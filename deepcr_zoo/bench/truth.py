"""Mask networks against the truth of simulated exposures of their camera: what labels of real exposures cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.bench.benchdata import check_data, describe
from deepcr_zoo.bench.maskbenchmark import judge_masks
from deepcr_zoo.bench.measures import lacosmicmasks
from deepcr_zoo.bench.results import TruthResults
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe


def judge_against_truth(
    models: Sequence[MaskModel], compared: int, recipe: Recipe, lacosmic: bool, jobs: int, reporter: Reporter
) -> tuple[TruthResults | None, list[str]]:
    """Judge networks as `judge_masks` does, on the exposures of `benchmark.truth`, which are simulated where needed.

    Returns the results, None if the recipe names no such exposures, and cautions.
    """
    simulated = recipe.of_truth
    if simulated is None:
        return None, []
    dataset = find_or_build(simulated, (), False, jobs, None, reporter)
    check_data(dataset, simulated)
    if lacosmic:
        with reporter.amount("L.A.Cosmic on simulated exposures") as done:
            lacosmicmasks.prepare(dataset, simulated, jobs, done)
    exposures = sum(1 for _ in dataset.exposures("test"))
    with reporter.pieces("judging masks against the truth", exposures) as on_exposure:
        found = judge_masks(models, compared, dataset, simulated, lacosmic, on_exposure)
    results = TruthResults(data=describe(dataset, simulated, None), methods=found.methods, comparisons=found.comparisons)
    return results, [f"against the truth: {caution}" for caution in found.cautions]
