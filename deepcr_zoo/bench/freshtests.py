"""Fresh test visits of a run: simulated anew, in place of those of its recipe that people have looked at."""

from __future__ import annotations

from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.recipe import RESERVED_SEED, Recipe, SimulatedVisitCount

JUDGING_CHANGES: dict[Task, int] = {"mask": 0, "inpaint": 1}
"""How often fresh visits led to a change of what is judged: other seeds are taken then, since they have been looked at."""


def with_fresh_tests(recipe: Recipe, weights_sha256: str) -> Recipe:
    """Return a recipe with new test visits alone: as many of each field type, and with seeds that follow from the weights.

    So nobody chooses them, and there is one such set for a network, until judging changes. `UsageError` if the recipe
    simulates no test visits.
    """
    simulated = recipe.data.simulated
    tested = {} if simulated is None else {kind: one.test for kind, one in simulated.visits.items() if one.test}
    if simulated is None or not tested:
        raise UsageError(f"{recipe.name}: expected a recipe that simulates its test visits (data.simulated)")
    count = sum(tested.values())
    own = range(simulated.seed - count + 1, simulated.seed + simulated.count)  # first seeds of visits of the recipe
    free = [seed for seed in range(RESERVED_SEED - count + 1) if seed not in own]
    visits = {kind: SimulatedVisitCount(test=number) for kind, number in tested.items()}
    place = int(weights_sha256, 16) + count * JUDGING_CHANGES[recipe.task]
    fresh = simulated.model_copy(update={"visits": visits, "seed": free[place % len(free)]})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"simulated": fresh})})
