"""A recipe's rehearsal: simulated visits of its instrument in the place of its data, everything else unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.recipe import SIMULATED_FIELD_TYPES, BuildBlock, Recipe, SimulatedFieldType, Split
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.visits import SimulatedVisit


@dataclass(frozen=True)
class RehearsedVisit:
    """A visit that is to be simulated.

    Attributes
    ----------
    name : str
    split : Split
    simulated : SimulatedVisit
    """

    name: str
    split: Split
    simulated: SimulatedVisit

    @property
    def field_type(self) -> SimulatedFieldType:
        """What it shows."""
        return self.simulated.field_type


def rehearsed_visits(recipe: Recipe) -> list[RehearsedVisit]:
    """The simulated visits of a recipe's rehearsal, each with a seed of its own.

    Raises
    ------
    UsageError
        If the recipe's instrument cannot be simulated.
    """
    rehearsal, instrument = recipe.rehearsal, simulated(recipe.instrument)
    field_types = [field_type for field_type in SIMULATED_FIELD_TYPES if field_type in rehearsal.exposure_time_s]
    train: list[Split] = ["train"] * rehearsal.visits.train
    test: list[Split] = ["test"] * rehearsal.visits.test
    visits = []
    for seed, (field_type, split) in enumerate(((one, two) for one in field_types for two in train + test), rehearsal.seed):
        to_simulate = SimulatedVisit(
            instrument=instrument,
            field_type=field_type,
            seed=seed,
            exposures=rehearsal.exposures,
            exposure_time_s=rehearsal.exposure_time_s[field_type],
            side=rehearsal.side,
        )
        visits.append(RehearsedVisit(f"simulated-{field_type}-{seed}", split, to_simulate))
    return visits


def rehearsal_build(recipe: Recipe) -> BuildBlock:
    """The recipe's build, with the stamps of its rehearsal."""
    return recipe.build.model_copy(update={"stamps": recipe.rehearsal.stamps})
