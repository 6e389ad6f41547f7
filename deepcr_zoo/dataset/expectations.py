"""What a recipe expects: visits, exposures and stamps, before anybody has the data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.zoo.instruments import default_instruments
from deepcr_zoo.zoo.recipe import FIELD_TYPES, RESERVED_SEED, SIMULATED_FIELD_TYPES, FieldType, Recipe, Split, VisitRule

SPLITS: tuple[Split, ...] = ("train", "test")


RESERVED = f"simulated visits of seeds from {RESERVED_SEED} up are for independent evaluation: do not tune or train on them"


@dataclass(frozen=True)
class Expected:
    """What a recipe expects of one field type and split.

    Attributes
    ----------
    split : str
    field_type : str
    visits, exposures, stamps : int
        Of the visits that the recipe names; training stamps include those for validation.
    """

    split: Split
    field_type: FieldType
    visits: int
    exposures: int
    stamps: int


def expected(recipe: Recipe) -> list[Expected]:
    """What the named visits of a recipe hold, by split and field type."""
    per_exposure = recipe.instrument.chips * prod(recipe.build.stamps.grid(recipe.instrument.chip_shape))

    def count(split: Split, field_type: FieldType, rules: Iterable[VisitRule]) -> Expected:
        matching = [rule for rule in rules if (rule.split, rule.field_type) == (split, field_type)]
        exposures = sum(rule.exposures or 0 for rule in matching)
        return Expected(split, field_type, len(matching), exposures, exposures * per_exposure)

    named = [rule for rule in recipe.data.visits.values() if rule.is_one_visit]
    asked = {rule.field_type for rule in named}
    kinds = [kind for kind in FIELD_TYPES if kind in SIMULATED_FIELD_TYPES or kind in asked]
    return [count(split, field_type, named) for split in SPLITS for field_type in kinds]


def expected_rehearsal(recipe: Recipe) -> list[Expected]:
    """What the rehearsal of a recipe simulates, by split and field type; nothing if it cannot be rehearsed."""
    if why_no_rehearsal(recipe):
        return []
    sizes = recipe.rehearsal
    per_exposure = prod(sizes.stamps.grid((sizes.side, sizes.side)))
    visits = {"train": sizes.visits.train, "test": sizes.visits.test}
    return [
        Expected(split, kind, visits[split], visits[split] * sizes.exposures, visits[split] * sizes.exposures * per_exposure)
        for split in SPLITS
        for kind in SIMULATED_FIELD_TYPES
        if kind in sizes.exposure_time_s
    ]


def why_no_rehearsal(recipe: Recipe) -> str | None:
    """Why simulated visits cannot stand in for a recipe's data; None if they can."""
    if recipe.build.labels != "astrodrizzle":
        return f"simulated visits are dithered and have no darks, which does not do for build.labels {recipe.build.labels}"
    try:
        simulated(recipe.instrument)
    except UsageError as error:
        return str(error)
    return None


def doubts(recipe: Recipe) -> list[str]:
    """What is not certain about a recipe, one sentence each."""
    rules, block = recipe.data.visits.items(), recipe.instrument
    queries = [name for name, rule in rules if not rule.is_one_visit]
    found = [f"{', '.join(queries)}: visits by query, files or --online tell how many there are"] if queries else []
    uncounted = [name for name, rule in rules if rule.is_one_visit and rule.exposures is None]
    found += [f"{', '.join(uncounted)}: the number of exposures is not given"] if uncounted else []
    if (why := why_no_rehearsal(recipe)) is not None:
        found.append(f"it cannot be rehearsed: {why}")
    if recipe.rehearsal.is_reserved:
        found.append(RESERVED)
    names = (block.telescope, block.instrument, block.detector)
    if default_instruments().named(*names) is None:
        found.append(
            f"{' '.join(names)} is not in the table of instruments yet, and build needs it there (zoo/instruments.yaml)"
        )
    if not recipe.data.checked_against_archive:
        found.append("nobody has checked these visits against the archive yet: --online does (data.checked_against_archive)")
    return found
