"""What methods are judged on, in words and numbers: the test stamps of a training set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from deepcr_zoo.bench.judged import field_types_of, judged_stamps
from deepcr_zoo.bench.results import AddedMasks, Data, PixelCounts
from deepcr_zoo.dataset.build import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.rehearsal import rehearsed_visits
from deepcr_zoo.dataset.wording import ignored_of, labels_of
from deepcr_zoo.errors import DataError, DatasetError
from deepcr_zoo.recipe import FieldType, Recipe
from deepcr_zoo.results import POOLED
from deepcr_zoo.simulate import VERSION as SIMULATOR


def check_data(dataset: Dataset, recipe: Recipe) -> None:
    """Make sure that a training set has test stamps, and that a recipe can tell how they were made.

    Raises
    ------
    DatasetError
        If it was built from another recipe, or simulated by another version of the simulator.
    DataError
        If it has no test stamps.
    """
    rehearsal = dataset.manifest.rehearsal
    dataset.check_recipe(recipe, rehearsal)
    if rehearsal:
        known = {visit.key for visit in plan_build(recipe, rehearse=True, home=dataset.home).visits}
        if not known >= {visit.record.key for visit in dataset.manifest.visits}:
            raise DatasetError(f"{dataset.folder}: was simulated by another version than {SIMULATOR}: run the build again")
    if not field_types_of(dataset):
        raise DataError(f"{dataset.folder}: has no test stamp to judge on: give the recipe a visit whose split is test")


def describe(dataset: Dataset, recipe: Recipe, added: AddedMasks | None) -> Data:
    """What methods are judged on.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
        That has passed `check_data`.
    added : AddedMasks or None
        Which pixels are filled, where methods inpaint.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    """
    manifest = dataset.manifest
    pixels: dict[str, PixelCounts] = {name: _pixels(dataset, name) for name in field_types_of(dataset)}
    return Data(
        kind="synthetic" if manifest.rehearsal else "real",
        description=_description(dataset),
        labels=labels_of(recipe, sorted({group.visit.software for group in dataset.exposures("test")})),
        ignored=ignored_of(recipe),
        manifest_sha256=dataset.manifest_sha256,
        simulator_version=SIMULATOR if manifest.rehearsal else None,
        seeds=_seeds(dataset, recipe) if manifest.rehearsal else [],
        pixels={**pixels, POOLED: _together(pixels.values())},
        inpainting=added,
    )


def _description(dataset: Dataset) -> str:
    """Such as: test stamps of NAME, simulated, 128 x 128 pixels; extragalactic: 147 of 3 exposures of 1 visit; ..."""
    manifest = dataset.manifest
    origin = "simulated, " if manifest.rehearsal else ""
    parts = [f"test stamps of {manifest.name}, {origin}{manifest.stamp_size} x {manifest.stamp_size} pixels"]
    for field_type in field_types_of(dataset):
        groups = list(dataset.exposures("test", field_type))
        stamps, visits = sum(len(group.indices) for group in groups), len({group.visit.key for group in groups})
        of_visits = "1 visit" if visits == 1 else f"{visits} visits"
        parts.append(f"{field_type.replace('_', ' ')}: {stamps} of {len(groups)} exposures of {of_visits}")
    if manifest.split_by == "observation":
        parts.append("split by observation: training may show the same sky")
    return "; ".join(parts)


def _seeds(dataset: Dataset, recipe: Recipe) -> list[int]:
    """Of the visits that have test stamps."""
    used = {group.visit.name for group in dataset.exposures("test")}
    return [visit.simulated.seed for visit in rehearsed_visits(recipe) if visit.name in used]


def _pixels(dataset: Dataset, field_type: FieldType) -> PixelCounts:
    return _together(
        PixelCounts(
            exposures=1,
            pixels=one.ignore.size,
            cosmic_rays=int(np.count_nonzero(one.cosmic_rays & ~one.ignore)),
            ignored=int(np.count_nonzero(one.ignore)),
        )
        for one in judged_stamps(dataset, field_type)
    )


def _together(counts: Iterable[PixelCounts]) -> PixelCounts:
    each = [one.model_dump() for one in counts]
    return PixelCounts(**{name: sum(one[name] for one in each) for name in PixelCounts.model_fields})
