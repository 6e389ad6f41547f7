"""The training set of a recipe: one that exists, or one that is built now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deepcr_zoo.dataset.build import assemble_labelled, label_visits
from deepcr_zoo.dataset.fetching import exposures_of
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import MANIFEST_FILE, Home, Manifest
from deepcr_zoo.documents import is_of_others
from deepcr_zoo.files import read_file
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe


def find_or_build(
    recipe: Recipe,
    data: Sequence[str | Path],
    rehearse: bool,
    jobs: int,
    beside: Path | None,
    reporter: Reporter,
    home: Home | None = None,
) -> Dataset:
    """Return the training set of a recipe; build it unless `data` is the folder of one.

    Otherwise `data` are folders, wildcards and files with exposures, ``mast`` for the archive, or manifests of it.
    `beside` is the folder of the recipe, where relative names in it start; `jobs` is how many visits are labelled at a time;
    `home` is where training sets lie, if not in the usual place.
    """
    if built := find_built(data):
        return built
    places = data if rehearse else exposures_of(recipe, data, beside, reporter)
    plan = plan_build(recipe, places, rehearse, jobs, beside, home)
    for caution in plan.cautions:
        reporter.message("caution", caution, "caution")
    return assemble_labelled(plan, reporter.track(label_visits(plan, jobs), "labelling", len(plan.visits)))


def find_built(data: Sequence[str | Path]) -> Dataset | None:
    """Return the training set if `data` is the folder of one, else None: exposures may lie beside a manifest of others."""
    if len(data) != 1 or not (path := Path(data[0]) / MANIFEST_FILE).is_file():
        return None
    with suppress(OSError):  # which is reported when it is opened
        if is_of_others(read_file(path), Manifest):
            return None
    return Dataset.open(Path(data[0]))
