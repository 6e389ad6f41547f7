"""From a recipe to a training set: find or simulate visits, label each, assign splits, write the manifest."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from deepcr_zoo import batch
from deepcr_zoo.batch import ForEach, Jobs, Outcome
from deepcr_zoo.dataset import darks, footprints, ignore, splits, visits
from deepcr_zoo.dataset.drizzle import require_drizzlepac
from deepcr_zoo.dataset.expectations import RESERVED, SPLITS
from deepcr_zoo.dataset.exposures import ExposureFacts, detector_of, read_facts
from deepcr_zoo.dataset.labelmethods import WAYS
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.planned import PlannedVisit, rehearsal_build, rehearsed_visits
from deepcr_zoo.dataset.reading import Dataset, read_tensors
from deepcr_zoo.dataset.splits import VisitStamps
from deepcr_zoo.dataset.store import (
    FORMAT,
    MANIFEST_FILE,
    STAMP_SPLITS,
    DatasetVisit,
    Home,
    Manifest,
    Rejected,
    StampSplit,
    VisitRecord,
    disk_full_is_told,
    key_of,
    recipe_key,
    write_document,
)
from deepcr_zoo.errors import DataError, InterruptedWorkError, InvalidFileError, MissingDataError, UsageError
from deepcr_zoo.files import sweep_leftovers, sweep_partial
from deepcr_zoo.models.baselines import require_astroscrappy
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType, Recipe, Split, SplitBy


@dataclass(frozen=True)
class BuildPlan:
    """What a recipe's training set will be made of.

    Attributes
    ----------
    recipe : Recipe
    home : Home
    rehearsal : bool
    visits : tuple of PlannedVisit
    rejected : tuple of Rejected
        Files that cannot be used or that no rule takes in, and visits that cannot be labelled.
    missing : tuple of str
        What the recipe asks for and is not there.
    cautions : tuple of str
        What the user should know of the data.
    """

    recipe: Recipe
    home: Home
    rehearsal: bool
    visits: tuple[PlannedVisit, ...]
    rejected: tuple[Rejected, ...] = ()
    missing: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The hash of all that stamps and splits depend on."""
        stamps = self.visits[0].build.stamps
        return key_of(
            {
                "format": FORMAT,
                "name": self.recipe.name,
                "rehearsal": self.rehearsal,
                "visits": [[visit.key, visit.split] for visit in self.visits],
                "validation_fraction": stamps.validation_fraction,
                "recipe": recipe_key(self.recipe, self.rehearsal),
                "seed": self.recipe.build.seed,
            }
        )

    @property
    def split_by(self) -> SplitBy:
        """What training and test do not share; simulated visits never share their sky."""
        return "sky" if self.rehearsal else self.recipe.data.split_by

    @property
    def folder(self) -> Path:
        """Where the training set will be."""
        return self.home.dataset(self.recipe.name, self.key)


def plan_build(
    recipe: Recipe,
    data: Sequence[str | Path] = (),
    rehearse: bool = False,
    jobs: Jobs = 1,
    beside: Path | None = None,
    home: Home | None = None,
) -> BuildPlan:
    """Find out what a recipe's training set will be made of; reads every file once.

    Parameters
    ----------
    recipe : Recipe
    data : sequence of path-like
        Folders, wildcards and files with exposures, besides those that the recipe names.
    rehearse : bool
        Simulated visits in the place of the data.
    jobs : int or Runner
        Processes, or who else reads the files.
    beside : Path, optional
        Folder of the recipe, which relative names in it start at, the current one by default.
    home : Home, optional
        Where training sets are kept; by default as `Home.default`.

    Raises
    ------
    UsageError
        If data is given with a rehearsal, or a name stands for nothing.
    MissingDataError
        If there is no exposure at all: it lists what is wanted, and how to supply it.
    DataError
        If training and test overlap on the sky, or no visit can be labelled, or there are too few dark exposures.
    InvalidFileError
        If a file cannot be used and the recipe refuses that (``build.quality.on_bad_file``).
    """
    ignore.kept_bits(recipe.build.ignore, detector_of(recipe.instrument))  # what is not known of it fails at once
    home = home or Home.default()
    if rehearse:
        if recipe.build.labels != "astrodrizzle":
            raise UsageError(
                "--rehearse simulates dithered visits and no darks, which AstroDrizzle alone labels: give exposures with "
                "--data, or --set build.labels=astrodrizzle"
            )
        if data:
            raise UsageError("--rehearse simulates its exposures: leave out --data")
        cautions = (RESERVED,) if recipe.rehearsal.is_reserved else ()
        return BuildPlan(recipe, home, True, tuple(_rehearsed(recipe)), cautions=cautions)
    places = [*data, *visits.beside(beside, recipe.data.files)]
    files = visits.find_files(places, recipe.data.product)
    if not files:
        raise visits.no_data(recipe)
    facts, rejected = _read_all(recipe, files, jobs)
    banks, no_darks = _banks(recipe, beside, jobs)
    _check_no_dark_is_data(facts, [dark for bank in banks.values() for dark in bank])
    found = visits.group(recipe, facts)
    rejected += [Rejected(what=path, reason=reason) for path, reason in found.unused.items()]
    usable, too_small = _large_enough(recipe, found.visits)
    if not usable:
        raise _nothing_usable(recipe, found, rejected + too_small)
    if recipe.data.split_by == "sky":
        visits.check_apart([(visit.name, visit.rule, visit.split, visit.outlines) for visit in usable])
    planned = (_planned(recipe, visit, usable, banks[visit.split]) for visit in usable)
    left_out = tuple(rejected + too_small + no_darks)
    return BuildPlan(recipe, home, False, tuple(planned), left_out, tuple(found.missing), tuple(found.cautions))


def label_visits(plan: BuildPlan, jobs: Jobs = 1) -> Iterator[Outcome[VisitRecord]]:
    """Label the visits of a plan, several at once; those that are finished are not done again.

    Parameters
    ----------
    plan : BuildPlan
    jobs : int or Runner
        Processes, or who else does it; a visit of three full ACS/WFC frames takes up to 4.5 GB of memory.

    Yields
    ------
    Outcome
        In the order of the plan; its path is the name of the visit, its error that of a visit that is to be tried again.

    Raises
    ------
    MissingExtraError
        If visits are to be labelled and drizzlepac, or what else their labels need, is not installed.
    OutputError
        If training sets cannot be kept where they should be.
    """
    plan.home.make()
    sweep_leftovers(plan.home.visits)
    by_name = {visit.name: visit for visit in plan.visits}
    unfinished = [visit for visit in plan.visits if plan.home.finished_visit(visit.key) is None]
    if any(visit.build.labels == "astrodrizzle" for visit in unfinished):
        require_drizzlepac()
    if any(visit.build.labels == "dark_paste" and visit.build.dark_paste.own == "lacosmic" for visit in unfinished):
        require_astroscrappy()
    return batch.run(ForEach(partial(_label, plan.home), by_name), list(by_name), jobs)


def assemble(plan: BuildPlan) -> Dataset:
    """Assign the stamps of labelled visits to training, validation and test, and write the manifest.

    Raises
    ------
    InterruptedWorkError
        If a visit is not labelled yet.
    DataError
        If training and test overlap on the sky, or no stamp is left for training.
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
        visits.check_apart([(v.name, v.name, v.split, [_array(one) for one in r.outlines]) for v, r in used])
    stamps = [_stamps_of(plan, visit, record) for visit, record in used]
    build = plan.visits[0].build
    assigned = splits.assign(stamps, build.stamps.validation_fraction, plan.recipe.build.seed)
    members = [
        DatasetVisit(record=record, split=visit.split, stamps=of_visit)
        for (visit, record), of_visit in zip(used, assigned, strict=True)
    ]
    rejected = [
        Rejected(what=record.name, reason=record.rejection) for _, record in labelled if record.rejection is not None
    ]
    rejected += [
        Rejected(what=f"{record.name}, {one.what}", reason=one.reason)
        for _, record in labelled
        if record.rejection is not None
        for one in record.rejected
    ]
    manifest = Manifest(
        name=plan.recipe.name,
        key=plan.key,
        rehearsal=plan.rehearsal,
        recipe_key=recipe_key(plan.recipe, plan.rehearsal),
        stamp_size=build.stamps.size,
        split_by=plan.split_by,
        counts=_counts(members),
        visits=members,
        rejected=[*plan.rejected, *rejected],
        missing=list(plan.missing),
        cautions=[*plan.cautions, *_shared_sky(plan, used), *_cautions(members)],
    )
    if not sum(of_type.get("train", 0) for of_type in manifest.counts.values()):
        raise DataError(_no_training(manifest))
    path = plan.folder / MANIFEST_FILE
    with disk_full_is_told(plan.home, plan.recipe.name):
        sweep_partial(path)
        before = path.read_bytes() if path.is_file() else None
        write_document(path, manifest)
    if before not in (None, path.read_bytes()):
        shutil.rmtree(plan.folder / "report", ignore_errors=True)  # it is of another manifest
    return Dataset(plan.folder, plan.home, manifest)


def build_dataset(
    recipe: Recipe,
    data: Sequence[str | Path] = (),
    rehearse: bool = False,
    jobs: Jobs = 1,
    beside: Path | None = None,
    home: Home | None = None,
) -> Dataset:
    """The training set of a recipe, built where it is not there yet: `plan_build`, `label_visits` and `assemble` in one.

    Raises
    ------
    InterruptedWorkError
        If a visit could not be labelled for now: its text says why.
    """
    plan = plan_build(recipe, data, rehearse, jobs, beside, home)
    return assemble_labelled(plan, label_visits(plan, jobs))


def assemble_labelled(plan: BuildPlan, outcomes: Iterable[Outcome[VisitRecord]]) -> Dataset:
    """`assemble` after the visits of `label_visits`, if none of them failed.

    Raises
    ------
    InterruptedWorkError
        If a visit could not be labelled for now: its text says why.
    DataError
        As `assemble` raises it.
    """
    failures = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failures:
        raise InterruptedWorkError("\n".join([*failures, f"{len(failures)} of {len(plan.visits)} visits are not labelled"]))
    return assemble(plan)


def _rehearsed(recipe: Recipe) -> Iterator[PlannedVisit]:
    build = rehearsal_build(recipe)
    for visit in rehearsed_visits(recipe):
        yield PlannedVisit(visit.name, visit.field_type, visit.split, (), visit.simulated, None, recipe.instrument, build)


def _planned(
    recipe: Recipe, visit: visits.Visit, found: Sequence[visits.Visit], bank: tuple[ExposureFacts, ...]
) -> PlannedVisit:
    return PlannedVisit(
        visit.name,
        visit.field_type,
        visit.split,
        visit.exposures,
        None,
        visit.tweakreg,
        recipe.instrument,
        recipe.build,
        siblings=visits.siblings(visit, found) if WAYS[recipe.build.labels].same_pixels else (),
        darks=bank,
    )


def _banks(recipe: Recipe, beside: Path | None, jobs: Jobs) -> tuple[dict[Split, tuple[ExposureFacts, ...]], list[Rejected]]:
    """The dark exposures of training and of test visits, where labels need some, and those that cannot be used."""
    if recipe.build.labels != "dark_paste":
        return dict.fromkeys(SPLITS, ()), []
    block = recipe.build.dark_paste
    if not block.darks:
        raise MissingDataError(f"{recipe.name}: no dark exposures: name their folders under build.dark_paste.darks")
    files = visits.find_files(visits.beside(beside, block.darks), block.product, "build.dark_paste.product")
    found, rejected = _read_all(recipe, files, jobs, is_dark=True)
    try:
        return darks.split(visits.each_once(found), block.test_fraction, recipe.build.seed), rejected
    except DataError as error:
        reasons = "".join(f"\n  {one.what}: {one.reason}" for one in rejected)
        raise DataError(f"{recipe.name}: {error}{reasons}") from None


def _check_no_dark_is_data(facts: Sequence[ExposureFacts], used: Sequence[ExposureFacts]) -> None:
    data = {one.sha256 for one in facts}
    if both := next((dark for dark in used if dark.sha256 in data), None):
        raise DataError(f"{both.path}: is among the data and among the darks (build.dark_paste.darks): expected others")


def _read_all(
    recipe: Recipe, files: Sequence[Path], jobs: Jobs, is_dark: bool = False
) -> tuple[list[ExposureFacts], list[Rejected]]:
    """Facts of the files that can be used; the others are told, or refused where the recipe says so."""
    facts, rejected = [], []
    for outcome in batch.run(partial(_facts_of, recipe, is_dark), [str(path) for path in files], jobs):
        if outcome.result is not None:
            facts += outcome.result
        elif outcome.again:  # the file may be sound: without it this would be another training set
            raise InterruptedWorkError(f"{outcome.error}; run the same command again")
        elif recipe.build.quality.on_bad_file == "refuse":
            raise InvalidFileError(f"{outcome.error}; the recipe refuses such files (build.quality.on_bad_file)")
        else:
            rejected.append(Rejected(what=outcome.path, reason=str(outcome.error).removeprefix(f"{outcome.path}: ")))
    return facts, rejected


def _facts_of(recipe: Recipe, is_dark: bool, path: str) -> list[ExposureFacts]:
    return read_facts(Path(path), recipe.instrument, recipe.build.labels, is_dark)


def _label(home: Home, visit: PlannedVisit) -> VisitRecord:
    _sweep_here(home)
    return label_visit(visit, home)


@cache
def _sweep_here(home: Home) -> None:
    """Once in each process: only on its own machine can it be known of what was left whether somebody still works on it."""
    sweep_leftovers(home.visits)


def _large_enough(recipe: Recipe, found: Sequence[visits.Visit]) -> tuple[list[visits.Visit], list[Rejected]]:
    """Visits with exposures enough, and the others."""
    needed = recipe.build.quality.min_exposures
    usable = [visit for visit in found if len(visit.exposures) >= needed]
    too_small = [
        Rejected(
            what=visit.name,
            reason=f"{', '.join(one.name for one in visit.exposures)}: no other exposure of this visit, target and filter "
            f"overlaps; labels need {needed} (build.quality.min_exposures)"
            if len(visit.exposures) == 1
            else f"has {len(visit.exposures)} exposures, labels need {needed} (build.quality.min_exposures)",
        )
        for visit in found
        if len(visit.exposures) < needed
    ]
    return usable, too_small


def _nothing_usable(recipe: Recipe, found: visits.FoundVisits, rejected: Sequence[Rejected]) -> DataError:
    reasons = "\n".join(f"  {one.what}: {one.reason}" for one in rejected)
    missing = "\n".join(f"  {line}" for line in found.missing)
    return DataError(f"{recipe.name}: no visit can be labelled:\n{reasons}\nstill missing:\n{missing}")


def _stamps_of(plan: BuildPlan, visit: PlannedVisit, record: VisitRecord) -> VisitStamps:
    folder = plan.home.visit(record.key)
    tensors = [read_tensors(folder / one.stamps.name, ("position", "corners")) for one in record.exposures]
    return VisitStamps(
        f"{visit.exposures[0].proposal:05d}-{visit.exposures[0].visit}" if visit.exposures else visit.name,
        visit.split,
        record.largest_dither_arcsec,
        [one["position"] for one in tensors],
        [one["corners"] for one in tensors],
    )


def _counts(members: Sequence[DatasetVisit]) -> dict[FieldType, dict[StampSplit, int]]:
    total: Counter[tuple[FieldType, StampSplit]] = Counter()
    for member in members:
        for of_exposure in member.stamps:
            for split, indices in of_exposure.items():
                total[member.record.field_type, split] += len(indices)
    present = [field_type for field_type in FIELD_TYPES if any(one == field_type for one, _ in total)]
    return {field_type: {split: total[field_type, split] for split in STAMP_SPLITS} for field_type in present}


def _shared_sky(plan: BuildPlan, used: Sequence[tuple[PlannedVisit, VisitRecord]]) -> list[str]:
    if plan.split_by == "sky":
        return []
    names = {split: ", ".join(visit.name for visit, _ in used if visit.split == split) for split in ("train", "test")}
    return [
        f"training ({names['train']}) and test ({names['test'] or 'none'}) are split by observation and may show the same "
        "sky (data.split_by of the recipe): what is measured holds for other exposures of such targets"
    ]


def _cautions(members: Sequence[DatasetVisit]) -> list[str]:
    training = {member.record.field_type for member in members if member.split == "train"}
    testing = {member.record.field_type for member in members if member.split == "test"}
    return [
        f"{one}: there are visits for {'training' if one in training else 'testing'} alone"
        for one in FIELD_TYPES
        if one in training ^ testing
    ]


def _no_training(manifest: Manifest) -> str:
    reasons = [f"  {one.what}: {one.reason}" for one in manifest.rejected]
    reasons += [f"  missing: {line}" for line in manifest.missing]
    validation, guard = (sum(of_type.get(one, 0) for of_type in manifest.counts.values()) for one in ("validation", "guard"))
    reasons += [f"  {validation} stamps are for validation"] if validation else []
    reasons += [f"  {guard} stamps lie too near to those for validation"] if guard else []
    return f"{manifest.name}: no stamp is left for training:\n" + "\n".join(reasons)


def _array(outline: list[list[float]]) -> footprints.Positions:
    return np.array(outline)
