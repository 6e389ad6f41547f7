"""The training set of a recipe: one that is built already, or built now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepcr_zoo.dataset.build import assemble_labelled, label_visits
from deepcr_zoo.dataset.fetching import exposures_of
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import MANIFEST_FILE
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe


def find_or_build(
    recipe: Recipe, data: Sequence[str | Path], rehearse: bool, jobs: int, beside: Path | None, reporter: Reporter
) -> Dataset:
    """The training set of a recipe; a folder with a manifest is one that is built already.

    Parameters
    ----------
    recipe : Recipe
    data : sequence of path-like
        Folders, wildcards and files with exposures, ``mast`` for the archive, manifests of it; or the folder of a training
        set.
    rehearse : bool
        Simulated exposures in the place of the data.
    jobs : int
        Visits that are labelled at a time.
    beside : Path or None
        Folder of the recipe, which relative names in it start at.
    reporter : Reporter

    Raises
    ------
    DeepcrZooError
        As `dataset.plans.plan_build`, `label_visits` and `archive.fetch.exposures_of` raise.
    """
    if built := find_built(data):
        built.verify()
        return built
    places = data if rehearse else exposures_of(recipe, data, beside, reporter)
    plan = plan_build(recipe, places, rehearse, jobs, beside)
    for caution in plan.cautions:
        reporter.message("caution", caution, "caution")
    return assemble_labelled(plan, reporter.track(label_visits(plan, jobs), "labelling", len(plan.visits)))


def find_built(data: Sequence[str | Path]) -> Dataset | None:
    """The training set that data stands for, if it is the folder of one."""
    is_built = len(data) == 1 and (Path(data[0]) / MANIFEST_FILE).is_file()
    return Dataset.open(Path(data[0])) if is_built else None
