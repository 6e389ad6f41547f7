"""What models are judged on: the training set that a user has named, and the recipe that it is of."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import recipe_key
from deepcr_zoo.errors import UsageError
from deepcr_zoo.recipe import Recipe
from deepcr_zoo.recipefile import find_recipe, read_recipe, shipped_recipes
from deepcr_zoo.training.trainingsets import find_built, find_or_build
from deepcr_zoo.training.watch import Silent


def find_data(
    given: str | None,
    subjects: Sequence[Subject],
    *,
    recipe: Recipe | None = None,
    rehearse: bool = False,
    settings: Sequence[str] = (),
    jobs: int = 1,
    watch: Silent,
) -> tuple[Dataset, Recipe]:
    """Find or build the test stamps.

    Parameters
    ----------
    given : str or None
        A recipe, whose training set is built if it is not there; or the folder of a training set; or None, for that of the
        runs that are judged.
    subjects : sequence of Subject
    recipe : Recipe, optional
        That a folder is of; else it is looked for among those of the runs and those that ship.
    rehearse : bool
        With a recipe: its simulated visits.
    settings : sequence of str
        Overrides of a recipe, ``path.to.field=VALUE``.
    jobs : int
        Visits that are labelled at a time.
    watch : Silent

    Returns
    -------
    Dataset
    Recipe
        Of a rehearsal with what it puts over.

    Raises
    ------
    UsageError
        If nothing says what to judge on, or of what recipe it is.
    DeepcrZooError
        As a build raises.
    """
    if given is None:
        return _data_of_runs(subjects)
    if dataset := find_built([given]):
        rehearsal = dataset.manifest.rehearsal
        known = [recipe] if recipe else [*_recipes_of(subjects), *map(read_recipe, shipped_recipes().values())]
        found = [one for one in known if recipe_key(one, rehearsal) == dataset.manifest.recipe_key]
        if not found:
            raise UsageError(f"{given}: no known recipe is that of this training set: name it with --recipe, and --set")
        return dataset, found[0].rehearsed if rehearsal else found[0]
    path = find_recipe(given)
    read = read_recipe(path, settings)
    return find_or_build(read, (), rehearse, jobs, path.parent, watch), read.rehearsed if rehearse else read


def _data_of_runs(subjects: Sequence[Subject]) -> tuple[Dataset, Recipe]:
    """The training set of the runs, if it is one and the same."""
    runs = [subject.run for subject in subjects if subject.run is not None]
    if not runs:
        raise UsageError("expected --data RECIPE, or the folder of a training set: models of the zoo bring no data")
    if len({run.facts.manifest_sha256 for run in runs}) > 1:
        raise UsageError("the runs were trained on different data: expected --data RECIPE, or the folder of a training set")
    return runs[0].dataset(), runs[0].recipe


def _recipes_of(subjects: Sequence[Subject]) -> list[Recipe]:
    return [subject.run.recipe for subject in subjects if subject.run is not None]
