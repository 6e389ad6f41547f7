"""Mask networks against the truth of simulated exposures of their camera: what labels of real exposures cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.bench.benchdata import check_data, describe
from deepcr_zoo.bench.maskbenchmark import prepare_and_judge
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
    found = prepare_and_judge(models, compared, dataset, simulated, lacosmic, jobs, reporter, " against the truth")
    results = TruthResults(data=describe(dataset, simulated, None), methods=found.methods, comparisons=found.comparisons)
    return results, [f"against the truth: {caution}" for caution in found.cautions]
