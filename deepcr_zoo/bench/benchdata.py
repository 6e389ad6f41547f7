"""The data that models are judged on: a training set, and the recipe it was built from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deepcr_zoo.bench.freshtests import with_fresh_tests
from deepcr_zoo.bench.measures.detectionresults import structured_pixels
from deepcr_zoo.bench.measures.judgedpixels import field_types_of, judged_stamps
from deepcr_zoo.bench.measures.structures import Structures, find_structures
from deepcr_zoo.bench.results import AddedMasks, Data, PixelCounts
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.descriptions import describe_ignored_pixels, describe_labels
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.planned import rehearsed_visits, simulated_visits
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import recipe_key
from deepcr_zoo.dataset.trainingsets import find_built, find_or_build
from deepcr_zoo.errors import DataError, DatasetError, UsageError
from deepcr_zoo.progress import Reporter
from deepcr_zoo.simulate import VERSION as SIMULATOR
from deepcr_zoo.zoo.recipe import FieldType, Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe, shipped_recipes
from deepcr_zoo.zoo.records import POOLED


def find_data(
    given: str | None,
    subjects: Sequence[Subject],
    *,
    recipe: Recipe | None = None,
    rehearse: bool = False,
    fresh: bool = False,
    settings: Sequence[str] = (),
    jobs: int = 1,
    reporter: Reporter,
) -> tuple[Dataset, Recipe]:
    """Find or build the training set to judge on, and return it with its recipe (of a rehearsal, `Recipe.rehearsed`).

    `given` names a recipe, whose training set is built if there is none, or the folder of a training set; without it, the
    one training set of the runs is used; with `fresh` new test visits of a run (`freshtests`). The recipe of a folder is
    `recipe`, or one of the runs or of the shipped recipes.
    """
    dataset = None if given is None or given in shipped_recipes() else find_built([given])
    _check_options(given, dataset is not None, recipe, rehearse, fresh, settings)
    runs = [subject.run for subject in subjects if subject.run is not None]
    if given is None:
        if not runs:
            raise UsageError("expected --data RECIPE, or the folder of a training set: models of the zoo bring no data")
        if len({run.facts.manifest_sha256 for run in runs}) > 1:
            raise UsageError(
                "the runs were trained on different data: expected --data RECIPE, or the folder of a training set"
            )
        if fresh:
            return _fresh_tests(runs, jobs, reporter)
        return runs[0].dataset(), runs[0].recipe
    if dataset is not None:
        rehearsal = dataset.manifest.rehearsal
        known = [recipe] if recipe else [*(run.recipe for run in runs), *map(read_recipe, shipped_recipes().values())]
        found = [one for one in known if recipe_key(one, rehearsal) == dataset.manifest.recipe_key]
        if not found:
            raise UsageError(f"{given}: no known recipe is that of this training set: name it with --recipe, and --set")
        return dataset, found[0].rehearsed if rehearsal else found[0]
    path = find_recipe(given)
    read = read_recipe(path, settings)
    return find_or_build(read, (), rehearse, jobs, path.parent, reporter), read.rehearsed if rehearse else read


def _fresh_tests(runs: Sequence[Run], jobs: int, reporter: Reporter) -> tuple[Dataset, Recipe]:
    if len(runs) > 1 or runs[0].facts.rehearsal:
        raise UsageError("--fresh: expected one run, trained on the data of its recipe and in no rehearsal")
    (run,) = runs
    own = run.dataset()  # which its gates need, too
    recipe = with_fresh_tests(run.recipe, run.model("cpu", "torch").sha256)
    return find_or_build(recipe, (), False, jobs, None, reporter, own.home), recipe


def _check_options(
    given: str | None,
    is_folder: bool,
    recipe: Recipe | None,
    rehearse: bool,
    fresh: bool,
    settings: Sequence[str],
) -> None:
    """Raise `UsageError` for options that would change nothing."""
    if fresh and given is not None:
        raise UsageError("--fresh: leave out --data, for it simulates test visits of the recipe of a run")
    if rehearse and (given is None or is_folder):
        raise UsageError("--rehearse: expected --data RECIPE beside it, whose visits are simulated")
    if recipe is not None and not is_folder:
        raise UsageError("--recipe: expected --data DIR beside it, the folder of a training set of this recipe")
    if settings and (given is None or (is_folder and recipe is None)):
        raise UsageError("--set: expected --data RECIPE beside it, or --data DIR and --recipe RECIPE")


def check_data(dataset: Dataset, recipe: Recipe) -> None:
    """Check that a training set was built from a recipe, by this version of the simulator, and has sound test stamps."""
    rehearsal = dataset.manifest.rehearsal
    dataset.check_recipe(recipe, rehearsal)
    if dataset.manifest.is_synthetic:
        known = {visit.key for visit in plan_build(recipe, rehearse=rehearsal, home=dataset.home).visits}
        if not known >= {visit.record.key for visit in dataset.manifest.visits}:
            raise DatasetError(f"{dataset.folder}: was simulated by another version than {SIMULATOR}: run the build again")
    if not field_types_of(dataset):
        raise DataError(f"{dataset.folder}: has no test stamp to judge on: give the recipe a visit whose split is test")
    dataset.verify("test")


def describe(dataset: Dataset, recipe: Recipe, added: AddedMasks | None) -> Data:
    """Describe the test stamps for ``results.json``; `added` are the filled pixels if methods inpaint."""
    manifest = dataset.manifest
    tested = {group.visit.name for group in dataset.exposures("test")}
    simulated = rehearsed_visits(recipe) if manifest.rehearsal else simulated_visits(recipe)
    pixels: dict[str, PixelCounts] = {}
    structures: dict[str, Structures] = {}
    has_structures = recipe.build.labels != "truth"  # what lies so in the truth is true
    for name in field_types_of(dataset):
        pixels[name], structures[name] = _count(dataset, name, has_structures)
    seeds = [one.simulated.seed for one in simulated if one.simulated is not None and one.name in tested]
    if manifest.is_synthetic and not seeds:
        raise DatasetError(f"{dataset.folder}: names no visit of its recipe: build it again")
    return Data(
        kind="synthetic" if manifest.is_synthetic else "real",
        description=_description(dataset),
        labels=describe_labels(recipe, sorted({group.visit.software for group in dataset.exposures("test")})),
        ignored=describe_ignored_pixels(recipe),
        unseen=LABEL_METHODS[recipe.build.labels].unseen,
        structures={
            name: structured_pixels(found)
            for name, found in {**structures, POOLED: sum(structures.values(), Structures())}.items()
            if has_structures
        },
        manifest_sha256=dataset.manifest_sha256,
        simulator_version=SIMULATOR if manifest.is_synthetic else None,
        seeds=seeds,
        pixels={**pixels, POOLED: _together(pixels.values())},
        inpainting=added,
    )


def _description(dataset: Dataset) -> str:
    """Return text such as: test stamps of NAME, 128 x 128 pixels; extragalactic: 147 of 3 exposures of 1 visit; ..."""
    manifest = dataset.manifest
    origin = "simulated, " if manifest.is_synthetic else ""
    parts = [f"test stamps of {manifest.name}, {origin}{manifest.stamp_size} x {manifest.stamp_size} pixels"]
    for field_type in field_types_of(dataset):
        groups = list(dataset.exposures("test", field_type))
        stamps, visits = sum(len(group.indices) for group in groups), len({group.visit.key for group in groups})
        of_visits = "1 visit" if visits == 1 else f"{visits} visits"
        parts.append(f"{field_type.replace('_', ' ')}: {stamps} of {len(groups)} exposures of {of_visits}")
    if manifest.split_by == "observation":
        parts.append("split by observation: training may show the same sky")
    return "; ".join(parts)


def _count(dataset: Dataset, field_type: FieldType, has_structures: bool) -> tuple[PixelCounts, Structures]:
    """Count the pixels of a field type, and what lies in its labels as no cosmic rays do."""
    pixels, structures = [], Structures()
    for one in judged_stamps(dataset, field_type):
        pixels.append(
            PixelCounts(
                exposures=1,
                pixels=one.ignore.size,
                cosmic_rays=int(np.count_nonzero(one.cosmic_rays & ~one.ignore)),
                ignored=int(np.count_nonzero(one.ignore)),
            )
        )
        if has_structures:
            structures += find_structures(one.cosmic_rays, one)
    return _together(pixels), structures


def _together(counts: Iterable[PixelCounts]) -> PixelCounts:
    each = [one.model_dump() for one in counts]
    return PixelCounts(**{name: sum(one[name] for one in each) for name in PixelCounts.model_fields})
