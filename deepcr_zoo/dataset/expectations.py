"""Visits, exposures and stamps that a recipe expects, before the data are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from deepcr_zoo.dataset.labelmethods import LABEL_METHODS, why_not_of
from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate.cameras import is_of_hst
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.recipe import (
    FIELD_TYPES,
    RESERVED_SEED,
    SIMULATED_FIELD_TYPES,
    FieldType,
    Recipe,
    SimulatedData,
    Split,
    StampBlock,
)

SPLITS: tuple[Split, ...] = ("train", "test")

RESERVED = f"simulated visits of seeds from {RESERVED_SEED} up are for independent evaluation: do not tune or train on them"


@dataclass(frozen=True)
class Expected:
    """Counts of a field type and split; training stamps include those for validation."""

    split: Split
    field_type: FieldType
    visits: int
    exposures: int
    stamps: int


def expected(recipe: Recipe) -> list[Expected]:
    """Return the content of the visits that a recipe names or simulates, by split and field type."""
    if recipe.data.simulated is not None:
        return _simulated(recipe, recipe.data.simulated)
    per_exposure = recipe.instrument.chips * prod(recipe.build.stamps.grid(recipe.instrument.chip_shape))
    named = [rule for rule in recipe.data.visits.values() if rule.is_one_visit]
    used = {rule.field_type for rule in named}
    rows = []
    for split in SPLITS:
        for kind in (one for one in FIELD_TYPES if one in SIMULATED_FIELD_TYPES or one in used):
            rules = [rule for rule in named if (rule.split, rule.field_type) == (split, kind)]
            exposures = sum(rule.exposures or 0 for rule in rules)
            rows.append(Expected(split, kind, len(rules), exposures, exposures * per_exposure))
    return rows


def expected_truth(recipe: Recipe) -> list[Expected]:
    """Return the content of the simulated exposures against whose truth a recipe judges; nothing if it names none."""
    return [] if recipe.benchmark.truth is None else _simulated(recipe, recipe.benchmark.truth)


def _simulated(recipe: Recipe, simulated: SimulatedData) -> list[Expected]:
    block, side = recipe.instrument, simulated.side
    chips, shape = (block.chips, block.chip_shape) if side is None else (1, [side, side])
    per_exposure = chips * prod(recipe.build.stamps.grid(shape))
    rows = []
    for split in SPLITS:
        for kind, count in simulated.visits.items():
            visits = count.test if split == "test" else count.train + count.validation
            exposures = visits * simulated.exposures
            if visits:
                rows.append(Expected(split, kind, visits, exposures, exposures * per_exposure))
    return rows


def expected_rehearsal(recipe: Recipe) -> list[Expected]:
    """Return the content of a recipe's rehearsal, by split and field type; nothing if it cannot be rehearsed."""
    if why_no_rehearsal(recipe):
        return []
    sizes = recipe.rehearsal
    per_exposure = prod(sizes.stamps.grid(rehearsal_shape(recipe)))
    visits = {"train": sizes.visits.train, "test": sizes.visits.test}
    return [
        Expected(split, kind, visits[split], visits[split] * sizes.exposures, visits[split] * sizes.exposures * per_exposure)
        for split in SPLITS
        for kind in FIELD_TYPES
        if kind in sizes.exposure_time_s
    ]


def why_no_labels(recipe: Recipe) -> str | None:
    """Return why a recipe's label method cannot label exposures of its camera; None if it can."""
    block = recipe.instrument
    described = block.description
    camera = described.name if described else f"{block.telescope} {block.instrument} {block.detector}"
    return why_not_of(recipe.build.labels, block.telescope, camera)


def why_no_darks(recipe: Recipe) -> str | None:
    """Return what is missing if labels need dark exposures and the recipe names none."""
    if recipe.build.labels != "dark_paste" or recipe.build.dark_paste.darks:
        return None
    return (
        "labels dark_paste add cosmic rays of dark exposures, and the recipe names no dark exposures: name the folders of "
        "six or more under build.dark_paste.darks"
    )


def why_no_rehearsal(recipe: Recipe) -> str | None:
    """Return why simulated visits cannot replace a recipe's data; None if they can."""
    from deepcr_zoo.simulate.visits import visit_of

    labels, block = recipe.build.labels, recipe.instrument
    if labels == "dark_paste":
        return "the simulator makes no darks, which labels dark_paste need: choose build.labels for dithers or repeats"
    if labels == "given":
        return "simulated exposures have no masks of yours, which labels given need: choose build.labels dithers or cr_split"
    if is_of_hst(block) and LABEL_METHODS[labels].same_pixels:
        name = f"{block.instrument}/{block.detector}"
        return f"the simulator dithers the visits of {name}: expected build.labels astrodrizzle or dithers"
    if (why := why_no_labels(recipe)) is not None:
        return why
    if not is_of_hst(block) and labels == "astrodrizzle":
        return "AstroDrizzle reads no such files: expected build.labels dithers (images) or cr_split (repeats)"
    try:
        visit_of(recipe, next(iter(recipe.rehearsal.exposure_time_s)), 0, 1, 1.0, None)
    except UsageError as error:
        return str(error)
    return None


def rehearsal_shape(recipe: Recipe) -> tuple[int, int]:
    """Return rows and columns of the simulated exposures of a recipe that can be rehearsed."""
    from deepcr_zoo.simulate.plainvisits import PlainVisit
    from deepcr_zoo.simulate.visits import visit_of

    sizes = recipe.rehearsal
    field_type, seconds = next(iter(sizes.exposure_time_s.items()))
    visit = visit_of(recipe, field_type, sizes.seed, sizes.exposures, seconds, sizes.side)
    return visit.shape if isinstance(visit, PlainVisit) else (sizes.side, sizes.side)


def _no_training_stamps(what: str, stamps: StampBlock, shape: Sequence[int]) -> list[str]:
    """Return a sentence if chips of this shape leave no stamp for training."""
    from deepcr_zoo.dataset.splits import training_columns

    rows, columns = stamps.grid(shape)
    if rows and training_columns(columns, stamps.validation_fraction):
        return []
    return [
        f"{what} would have no stamps: chips of {' x '.join(map(str, shape))} pixels hold {rows} x {columns} stamps of "
        f"{stamps.size} pixels within borders of {stamps.border}, and some columns are for validation and guard"
    ]


def doubts(recipe: Recipe) -> list[str]:
    """Return what is uncertain about a recipe, one sentence each."""
    rules, block = recipe.data.visits.items(), recipe.instrument
    found = [] if (cannot := why_no_labels(recipe) or why_no_darks(recipe)) is None else [f"it cannot be built: {cannot}"]
    if queries := [name for name, rule in rules if not rule.is_one_visit]:
        found.append(f"{', '.join(queries)}: visits by query; the archive (--online) or a build shows how many there are")
    if uncounted := [name for name, rule in rules if rule.is_one_visit and rule.exposures is None]:
        found.append(f"{', '.join(uncounted)}: the number of exposures is not given")
    why = why_no_rehearsal(recipe)
    if why is not None and why != cannot:
        found.append(f"it cannot be rehearsed: {why}")
    elif why is None:
        found += _no_training_stamps("a rehearsal", recipe.rehearsal.stamps, rehearsal_shape(recipe))
    found += _no_training_stamps("a training", recipe.build.stamps, recipe.instrument.chip_shape)
    if recipe.rehearsal.is_reserved:
        found.append(RESERVED)
    names = (block.telescope, block.instrument, block.detector)
    if block.description is None and default_instruments().named(*names) is None:
        found.append(
            f"{' '.join(names)} is not described yet, and build needs that: deepcr-zoo instrument new FILE.fits describes it"
        )
    if rules and not recipe.data.checked_against_archive and block.description is None:
        found.append(
            "these visits have not been checked against the archive (data.checked_against_archive); --online checks them"
        )
    return found
