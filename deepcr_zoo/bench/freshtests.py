"""Fresh test visits of a recipe that simulates them: those that were looked at often judge less and less."""

from __future__ import annotations

from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipe import RESERVED_SEED, Recipe, SimulatedVisitCount


def with_fresh_tests(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe of other test visits, simulated from this seed on, as many, and of none to train on.

    `UsageError` if the recipe simulates no test visits, or if these are some of its own.
    """
    simulated = recipe.data.simulated
    tested = {} if simulated is None else {kind: one.test for kind, one in simulated.visits.items() if one.test}
    if simulated is None or not tested:
        raise UsageError(f"{recipe.name}: expected a recipe that simulates its test visits (data.simulated)")
    visits = {kind: SimulatedVisitCount(test=count) for kind, count in tested.items()}
    fresh = simulated.model_copy(update={"visits": visits, "seed": seed})
    first, last = simulated.seed, simulated.seed + simulated.count - 1
    if seed <= last and seed + fresh.count > first:
        raise UsageError(f"{recipe.name}: expected a seed of none of its own visits ({first} to {last}), got {seed}")
    if seed + fresh.count > RESERVED_SEED:
        raise UsageError(f"{recipe.name}: seeds below {RESERVED_SEED}, got up to {seed + fresh.count - 1}")
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"simulated": fresh})})
