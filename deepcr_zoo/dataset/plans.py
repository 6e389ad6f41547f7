"""The plan of a training set: visits found among the files of a user, or simulated, with their splits and darks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from deepcr_zoo import batch
from deepcr_zoo.dataset import darks, ignore, leftout, maskfiles, splits, visits
from deepcr_zoo.dataset.expectations import RESERVED, SPLITS, why_no_darks, why_no_labels, why_no_rehearsal
from deepcr_zoo.dataset.exposures import ExposureFacts, read_facts
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.planned import PlannedVisit, rehearsed_visits, simulated_visits
from deepcr_zoo.dataset.store import FORMAT, Home, Rejected, key_of, recipe_key
from deepcr_zoo.errors import DataError, InterruptedWorkError, InvalidFileError, MissingDataError, UsageError
from deepcr_zoo.simulate.truth import truth_path, truth_sha256
from deepcr_zoo.zoo.recipe import Recipe, Split, SplitBy
from deepcr_zoo.zoo.recipeinstruments import detector_of

DarkBanks = Mapping[Split, tuple[ExposureFacts, ...]]


@dataclass(frozen=True)
class BuildPlan:
    """The contents of a recipe's training set, before it is built."""

    recipe: Recipe
    home: Home
    rehearsal: bool
    visits: tuple[PlannedVisit, ...]
    rejected: tuple[Rejected, ...] = ()  # unusable files, files that no rule takes in, visits that cannot be labelled
    missing: tuple[str, ...] = ()  # data that the recipe lists and the user does not have
    cautions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The hash of all that stamps and splits depend on."""
        return key_of(
            {
                "format": FORMAT,
                "name": self.recipe.name,
                "rehearsal": self.rehearsal,
                "visits": [[visit.key, visit.split] for visit in self.visits],
                "validation_fraction": self.visits[0].build.stamps.validation_fraction,
                "recipe": recipe_key(self.recipe, self.rehearsal),
                "seed": self.recipe.build.seed,
                **({"validation": kept} if (kept := [one.key for one in self.visits if one.is_validation]) else {}),
            }
        )

    @property
    def split_by(self) -> SplitBy:
        """Return the unit that training and test never share; for simulated visits it is the sky."""
        return "sky" if self.rehearsal or self.recipe.data.simulated else self.recipe.data.split_by

    @property
    def is_for_judging(self) -> bool:
        """True if all that is simulated is for testing."""
        return self.recipe.data.simulated is not None and all(visit.split == "test" for visit in self.visits)

    @property
    def folder(self) -> Path:
        """Folder of the training set."""
        return self.home.dataset(self.recipe.name, self.key)


def plan_build(
    recipe: Recipe,
    data: Sequence[str | Path] = (),
    rehearse: bool = False,
    jobs: batch.Jobs = 1,
    beside: Path | None = None,
    home: Home | None = None,
) -> BuildPlan:
    """Plan the training set of a recipe; every file is read once. For parameters and errors see `build.build_dataset`."""
    ignore.quality_bits(recipe.build.ignore, detector_of(recipe.instrument))  # an unknown instrument fails at once
    home = home or Home.default()
    if rehearse:
        return _plan_rehearsal(recipe, data, home)
    if recipe.data.simulated is not None:
        return _plan_simulated(recipe, data, home)
    if (why := why_no_labels(recipe)) is not None:
        raise UsageError(f"{recipe.name}: {why}")
    if (why := why_no_darks(recipe)) is not None:
        raise MissingDataError(f"{recipe.name}: {why}")
    places = [*data, *visits.beside(beside, recipe.data.files)]
    files, masks = _without_masks(recipe, visits.find_files(places, recipe.data.product))
    if not files:
        raise visits.no_data(recipe)
    facts, rejected = _read_all(recipe, files, jobs)
    rejected += [*masks, *_unread(recipe, places)]
    banks, unusable_darks = _dark_banks(recipe, beside, jobs)
    _check_no_dark_is_data(facts, banks)
    found = visits.group(recipe, facts)
    rejected += [Rejected(what=path, reason=reason) for path, reason in found.unused.items()]
    usable, too_small = _large_enough(recipe, found.visits)
    if not usable:
        raise _nothing_usable(recipe, found, rejected + too_small)
    if recipe.data.split_by == "sky":
        visits.check_apart([(visit.name, visit.rule, visit.split, visit.outlines) for visit in usable])
    planned = tuple(_planned(recipe, visit, usable, banks[visit.split]) for visit in usable)
    left_out = tuple(rejected + too_small + unusable_darks)
    plan = BuildPlan(recipe, home, False, planned, left_out, tuple(found.missing), tuple(found.cautions))
    _check_training(plan, "build.stamps", "give larger exposures or smaller stamps")
    return plan


def _plan_rehearsal(recipe: Recipe, data: Sequence[str | Path], home: Home) -> BuildPlan:
    if (why := why_no_rehearsal(recipe)) is not None:
        raise UsageError(f"--rehearse: {why}; or give exposures with --data")
    if data:
        raise UsageError("--rehearse simulates its exposures: leave out --data")
    cautions = (RESERVED,) if recipe.rehearsal.is_reserved else ()
    plan = BuildPlan(recipe, home, True, tuple(rehearsed_visits(recipe)), cautions=cautions)
    _check_training(plan, "rehearsal.stamps", "make rehearsal.side larger or rehearsal.stamps.size smaller")
    return plan


def _plan_simulated(recipe: Recipe, data: Sequence[str | Path], home: Home) -> BuildPlan:
    if data:
        raise UsageError(
            "data.simulated of the recipe simulates its exposures: leave out --data, or --set data.simulated=null"
        )
    plan = BuildPlan(recipe, home, False, tuple(simulated_visits(recipe)))
    if not plan.visits:
        raise UsageError(f"{recipe.name}: data.simulated.visits: expected one visit or more")
    _check_training(plan, "build.stamps", "make data.simulated.side larger or the stamps smaller")
    return plan


def _check_training(plan: BuildPlan, block: str, advice: str) -> None:
    """Raise `DataError` before hours of labelling if no chip is large enough for a stamp that is for training."""
    stamps = plan.visits[0].build.stamps
    fraction = stamps.validation_fraction
    grids = [stamps.grid(shape) for visit in plan.visits if visit.split == "train" for shape in visit.shapes]
    if not grids or any(rows and splits.training_columns(columns, fraction) for rows, columns in grids):
        return
    rows, columns = max(grids, key=prod)
    needed = next(count for count in range(1, 1000) if splits.training_columns(count, fraction))
    raise DataError(
        f"{plan.recipe.name}: no stamp would be left for training: the chips of training visits hold at most {rows} x "
        f"{columns} stamps of {stamps.size} pixels within borders of {stamps.border} ({block}): expected {needed} columns "
        f"or more, some for validation and one as guard; {advice}"
    )


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
        siblings=visits.siblings(visit, found) if LABEL_METHODS[recipe.build.labels].same_pixels else (),
        darks=bank,
    )


def _dark_banks(recipe: Recipe, beside: Path | None, jobs: batch.Jobs) -> tuple[DarkBanks, list[Rejected]]:
    """Return the darks of training and of test visits, if the label method needs some, and unusable files."""
    if recipe.build.labels != "dark_paste":
        return dict.fromkeys(SPLITS, ()), []
    block = recipe.build.dark_paste
    files = visits.find_files(visits.beside(beside, block.darks), block.product, "build.dark_paste.product")
    found, rejected = _read_all(recipe, files, jobs, is_dark=True)
    try:
        return darks.split_darks(visits.each_once(found), block.test_fraction, recipe.build.seed), rejected
    except DataError as error:
        raise DataError(f"{recipe.name}: {error}", *(f"  {line}" for line in leftout.lines(rejected))) from None


def _check_no_dark_is_data(facts: Sequence[ExposureFacts], banks: DarkBanks) -> None:
    data = {one.sha256 for one in facts}
    if both := next((dark for bank in banks.values() for dark in bank if dark.sha256 in data), None):
        raise DataError(f"{both.path}: is among the data and among the darks (build.dark_paste.darks): expected others")


def _read_all(
    recipe: Recipe, files: Sequence[Path], jobs: batch.Jobs, is_dark: bool = False
) -> tuple[list[ExposureFacts], list[Rejected]]:
    """Return the facts of usable files, and the other files unless the recipe refuses them."""
    facts, rejected = [], []
    for outcome in batch.run(partial(_facts_of, recipe, is_dark), [str(path) for path in files], jobs):
        if outcome.result is not None:
            facts += outcome.result
        elif outcome.again:  # the file may be sound: without it the training set would differ
            raise InterruptedWorkError(f"{outcome.error}; run the same command again")
        elif recipe.build.quality.on_bad_file == "refuse":
            raise InvalidFileError(f"{outcome.error}; the recipe refuses such files (build.quality.on_bad_file)")
        else:
            rejected.append(Rejected(what=outcome.path, reason=str(outcome.error).removeprefix(f"{outcome.path}: ")))
    return facts, rejected


def _unread(recipe: Recipe, places: Sequence[str | Path]) -> list[Rejected]:
    """Return files in folders that are packed in ways that are not read, unless the recipe refuses such files."""
    reason = f"is not read as it is packed: unpack it (what ends in {', '.join(batch.PACKED_SUFFIXES)} is read)"
    paths = visits.unread_files(places, recipe.data.product)
    if paths and recipe.build.quality.on_bad_file == "refuse":
        raise InvalidFileError(f"{paths[0]}: {reason}; the recipe refuses such files (build.quality.on_bad_file)")
    return [Rejected(what=path, reason=reason) for path in paths]


def _facts_of(recipe: Recipe, is_dark: bool, path: str) -> list[ExposureFacts]:
    facts = read_facts(Path(path), recipe.instrument, recipe.build.labels, is_dark)
    if recipe.build.labels == "truth" and (truth := truth_path(Path(path))).is_file():
        return [dataclasses.replace(one, truth_sha256=truth_sha256(truth)) for one in facts]
    if recipe.build.labels != "given":
        return facts
    found = maskfiles.find_masks(Path(path), facts[0].sha256, recipe.build.given)
    return [dataclasses.replace(one, masks=found, cautions=(*one.cautions, *found.cautions)) for one in facts]


def _without_masks(recipe: Recipe, found: Sequence[Path]) -> tuple[list[Path], list[Rejected]]:
    """Return the files that are no masks, and masks whose exposures are missing."""
    if recipe.build.labels != "given":
        return list(found), []
    block = recipe.build.given
    files = [file for file in found if not maskfiles.is_mask(file, block)]
    if files and not any(maskfiles.places(file, block)[0].is_file() for file in files):
        raise MissingDataError(
            f"{recipe.name}: labels given read a mask beside each exposure, and none of {len(files)} exposures has one: "
            f"expected {maskfiles.places(files[0], block)[0]} and others like it (build.given.mask)"
        )
    theirs = {path for file in files for path in maskfiles.places(file, block)}
    reason = "is a mask by its name (build.given), and its exposure is missing"
    return files, [Rejected(what=str(file), reason=reason) for file in found if file not in theirs.union(files)]


def _large_enough(recipe: Recipe, found: Sequence[visits.Visit]) -> tuple[list[visits.Visit], list[Rejected]]:
    needed = recipe.build.quality.min_exposures
    usable = [visit for visit in found if len(visit.exposures) >= needed]
    small = [visit for visit in found if len(visit.exposures) < needed]
    too_small = _on_other_pixels(small, found) if LABEL_METHODS[recipe.build.labels].same_pixels else []
    for visit in (one for one in small if one.name not in {other.what for other in too_small}):
        reason = f"has {len(visit.exposures)} exposures,"
        if len(visit.exposures) == 1:
            reason = f"{visit.exposures[0].name}: no other exposure of this visit, target and filter overlaps;"
        too_small.append(Rejected(what=visit.name, reason=f"{reason} labels need {needed} (build.quality.min_exposures)"))
    return usable, too_small


def _on_other_pixels(small: Sequence[visits.Visit], found: Sequence[visits.Visit]) -> list[Rejected]:
    """Return the small visits that are exposures of one field on different pixels, as dithers make them."""
    count = Counter(visits.field_of(visit) for visit in found)
    reason = (
        "its exposure shares its pixels with no other of the field, by their WCS, and labels cr_split compare repeats on "
        "the same pixels: choose build.labels dithers for dithered exposures"
    )
    return [Rejected(what=visit.name, reason=reason) for visit in small if count[visits.field_of(visit)] > 1]


def _nothing_usable(recipe: Recipe, found: visits.FoundVisits, rejected: Sequence[Rejected]) -> DataError:
    reasons, problem = leftout.lines(rejected), f"{recipe.name}: no visit can be labelled:"
    if len(reasons) == 1 < len(rejected):  # all for the same reason
        return DataError(f"{problem} {reasons[0]}")
    missing = ["still missing:", *(f"  {line}" for line in found.missing)] if found.missing else []
    return DataError(problem, *(f"  {line}" for line in reasons), *missing)
