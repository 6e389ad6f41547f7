"""Build a training set: label the visits of its plan, assign splits, write the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from deepcr_zoo import batch
from deepcr_zoo.batch import ForEach, Jobs, Outcome
from deepcr_zoo.dataset import leftout, splits, stampfiles, store, visits
from deepcr_zoo.dataset.drizzle import require_drizzlepac
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.plans import BuildPlan, plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.starmatching import require_matching
from deepcr_zoo.errors import SEVERAL, SWITCH, DataError, DatasetError, InterruptedWorkError, Kind, with_kinds
from deepcr_zoo.files import reporting_failures, sweep_leftovers
from deepcr_zoo.models.baselines import require_astroscrappy
from deepcr_zoo.zoo.recipe import FIELD_TYPES, Recipe

Labelled = Sequence[tuple[PlannedVisit, store.VisitRecord]]

_KINDS: dict[str, Kind] = {
    "recipe": ((Recipe,), "a recipe, as `zoo.recipefiles.read_recipe` returns it"),
    "data": SEVERAL,
    "rehearse": SWITCH,
    "beside": ((Path, type(None)), "a path"),
    "home": ((store.Home, type(None)), "a folder of training sets, `dataset.store.Home`"),
}


@with_kinds(_KINDS)
def build_dataset(
    recipe: Recipe,
    data: Sequence[str | Path] = (),
    rehearse: bool = False,
    jobs: Jobs = 1,
    beside: Path | None = None,
    home: store.Home | None = None,
) -> Dataset:
    """Build the training set of a recipe; visits that are labelled already are not labelled again.

    Parameters
    ----------
    recipe : Recipe
    data : sequence of path-like
        Folders, wildcards and files with exposures, in addition to those that the recipe names.
    rehearse : bool
        Use simulated visits in place of the data.
    jobs : int or Runner
        Number of processes, or a runner that does the work elsewhere; a visit of three full ACS/WFC frames takes up to
        4.5 GB of memory.
    beside : Path, optional
        Folder of the recipe, where relative names in it start; the current folder by default.
    home : Home, optional
        Folder of all training sets; by default `Home.default`.

    Returns
    -------
    Dataset

    Raises
    ------
    UsageError
        If data is given with a rehearsal, or a name matches nothing.
    MissingDataError
        If there is no exposure; the text lists what is needed, and how to supply it.
    DataError
        If training and test overlap on the sky, no visit can be labelled, there are too few dark exposures, or no stamp is
        left for training.
    InvalidFileError
        If a file cannot be used and the recipe refuses that (``build.quality.on_bad_file``).
    MissingExtraError
        If a package that labels need is not installed.
    InterruptedWorkError
        If a visit could not be labelled for now; the text gives the reason.
    OutputError
        If the training set cannot be written.
    """
    plan = plan_build(recipe, data, rehearse, jobs, beside, home)
    return assemble_labelled(plan, label_visits(plan, jobs))


def label_visits(plan: BuildPlan, jobs: Jobs = 1) -> Iterator[Outcome[store.VisitRecord]]:
    """Label the unfinished visits of a plan, several at once, and yield an outcome for every visit in order.

    The path of an outcome is the name of its visit; a visit with an error is to be tried again.
    """
    plan.home.make()
    sweep_leftovers(plan.home.visits)
    by_name = {visit.name: visit for visit in plan.visits}
    unfinished = [visit for visit in plan.visits if plan.home.finished_visit(visit.key) is None]
    if any(visit.build.labels == "astrodrizzle" for visit in unfinished):
        require_drizzlepac()
    if any(visit.build.labels == "dithers" for visit in unfinished):
        require_matching()
    if any(visit.build.labels == "dark_paste" and visit.build.dark_paste.own == "lacosmic" for visit in unfinished):
        require_astroscrappy()
    # processes take seconds to start: none does where every visit is labelled
    return batch.run(ForEach(partial(_label, plan.home), by_name), list(by_name), jobs if unfinished else 1)


def assemble_labelled(plan: BuildPlan, outcomes: Iterable[Outcome[store.VisitRecord]]) -> Dataset:
    """Wait for the outcomes of `label_visits` and assemble the training set; raise InterruptedWorkError if one failed."""
    failures = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failures:
        raise InterruptedWorkError(*failures, f"{len(failures)} of {len(plan.visits)} visits are not labelled")
    return assemble(plan)


def assemble(plan: BuildPlan) -> Dataset:
    """Assign the stamps of labelled visits to training, validation and test, and write the manifest.

    The manifest that is returned says what this build has left out; the file stays as it is if it has the same stamps.
    """
    records = [plan.home.finished_visit(visit.key) for visit in plan.visits]
    labelled = [(visit, record) for visit, record in zip(plan.visits, records, strict=True) if record is not None]
    if len(labelled) < len(plan.visits):
        raise InterruptedWorkError(
            f"{len(plan.visits) - len(labelled)} of {len(plan.visits)} visits are not labelled: run the same command again, "
            "it goes on where this one ended"
        )
    used = [(visit, record) for visit, record in labelled if record.rejection is None]
    if plan.split_by == "sky":
        visits.check_apart([(v.name, v.name, v.split, [np.array(one) for one in r.outlines]) for v, r in used])
    members = _assign_splits(plan, used)
    manifest = store.Manifest(
        name=plan.recipe.name,
        key=plan.key,
        rehearsal=plan.rehearsal,
        simulated=not plan.rehearsal and plan.recipe.data.simulated is not None,
        recipe_key=store.recipe_key(plan.recipe, plan.rehearsal),
        stamp_size=plan.visits[0].build.stamps.size,
        split_by=plan.split_by,
        counts=store.count_stamps(members),
        visits=members,
        rejected=[*plan.rejected, *_rejections(labelled)],
        missing=list(plan.missing),
        cautions=[*plan.cautions, *_shared_sky(plan, used), *_one_sided(members), *_of_exposures(members)],
    )
    if not plan.is_for_judging and not sum(of_type.get("train", 0) for of_type in manifest.counts.values()):
        raise DataError(*_no_training(manifest))
    _write_manifest(plan, manifest)
    return Dataset(plan.folder, plan.home, manifest)


def _label(home: store.Home, visit: PlannedVisit) -> store.VisitRecord:
    sweep_leftovers(home.visits)  # each machine recognises only its own dead processes
    return label_visit(visit, home)


def _assign_splits(plan: BuildPlan, used: Labelled) -> list[store.DatasetVisit]:
    stamps = [_stamps_of(plan, visit, record) for visit, record in used]
    fraction = plan.visits[0].build.stamps.validation_fraction
    assigned = splits.assign_splits(stamps, fraction, plan.recipe.build.seed)
    return [
        store.DatasetVisit(record=record, split=visit.split, stamps=of_visit)
        for (visit, record), of_visit in zip(used, assigned, strict=True)
    ]


def _stamps_of(plan: BuildPlan, visit: PlannedVisit, record: store.VisitRecord) -> splits.VisitStamps:
    tensors = [stampfiles.stamps_of(plan.home, record, one).read("position", "corners") for one in record.exposures]
    positions, corners = ([one[name] for one in tensors] for name in ("position", "corners"))
    pointing = f"{visit.exposures[0].proposal:05d}-{visit.exposures[0].visit}" if visit.exposures else visit.name
    dither = record.largest_dither_arcsec
    return splits.VisitStamps(pointing, visit.split, dither, positions, corners, visit.is_validation)


def _write_manifest(plan: BuildPlan, manifest: store.Manifest) -> None:
    """Write the manifest, unless there is one of the same stamps: runs know their training set by the hash of its file."""
    if _is_of_same_stamps(plan.folder, manifest):
        return
    path = plan.folder / store.MANIFEST_FILE
    with reporting_failures(path, store.ELSEWHERE):
        replaced = path.is_file()
        store.write_document(path, manifest)
        if replaced and not (plan.folder / store.REPORT).is_symlink():
            for name in store.REPORT_FILES:  # they describe another manifest
                (plan.folder / store.REPORT / name).unlink(missing_ok=True)


def _is_of_same_stamps(folder: Path, manifest: store.Manifest) -> bool:
    """True if the manifest in a folder differs at most in what is said of the build, which also depends on unused files."""
    of_build = {"rejected", "missing", "cautions"}
    try:
        there = store.read_manifest(folder)
    except DatasetError:
        return False
    return there.model_dump(exclude=of_build) == manifest.model_dump(exclude=of_build)


def _rejections(labelled: Labelled) -> list[store.Rejected]:
    records = [record for _, record in labelled if record.rejection is not None]
    found = [(record.name, str(record.rejection)) for record in records]
    found += [(f"{record.name}, {one.what}", one.reason) for record in records for one in record.rejected]
    return [store.Rejected(what=what, reason=reason) for what, reason in found]


def _shared_sky(plan: BuildPlan, used: Labelled) -> list[str]:
    """Return a caution if training and test may show the same sky."""
    if plan.split_by == "sky":
        return []
    names = {split: ", ".join(visit.name for visit, _ in used if visit.split == split) for split in ("train", "test")}
    return [
        f"training ({names['train']}) and test ({names['test'] or 'none'}) are split by observation and may show the same "
        "sky (data.split_by of the recipe): what is measured holds for other exposures of such targets"
    ]


def _one_sided(members: Sequence[store.DatasetVisit]) -> list[str]:
    """Return a caution for each field type that only training or only test has."""
    training, testing = ({one.record.field_type for one in members if one.split == split} for split in ("train", "test"))
    return [
        f"{one}: there are visits for {'training alone: none to judge a network on' if one in training else 'testing alone'}"
        for one in FIELD_TYPES
        if one in training ^ testing
    ]


def _of_exposures(members: Sequence[store.DatasetVisit]) -> list[str]:
    """Return the cautions of all exposures, each with the name of its exposure."""
    exposures = [exposure for member in members for exposure in member.record.exposures]
    return [f"{exposure.name}: {caution}" for exposure in exposures for caution in exposure.cautions]


def _no_training(manifest: store.Manifest) -> list[str]:
    reasons = [f"  {line}" for line in leftout.lines(manifest.rejected)]
    reasons += [f"  missing: {line}" for line in manifest.missing]
    validation, guard = (sum(of_type.get(one, 0) for of_type in manifest.counts.values()) for one in ("validation", "guard"))
    reasons += [f"  {validation} stamps are for validation"] if validation else []
    reasons += [f"  {guard} stamps lie too near to those for validation"] if guard else []
    return [f"{manifest.name}: no stamp is left for training:", *reasons]
