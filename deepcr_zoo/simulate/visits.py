"""Simulated visits of any recipe: of HST for AstroDrizzle, or of another camera as it writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate import plainvisits, simulation
from deepcr_zoo.simulate.cameras import is_of_hst, simulated
from deepcr_zoo.simulate.cameraspace import draw_camera
from deepcr_zoo.simulate.draws import log_uniform
from deepcr_zoo.simulate.plainvisits import PlainVisit, write_plain_visit
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType, Recipe, SimulatedFieldType

Visit = SimulatedVisit | PlainVisit


def visit_of(
    recipe: Recipe,
    field_type: FieldType,
    seed: int,
    exposures: int,
    seconds: float | Sequence[float],
    side: int | None,
    same_pixels: bool = False,
) -> Visit:
    """Return a visit to simulate, or raise `UsageError` if that is not possible.

    Its camera is that of the recipe; if the recipe has a space of cameras, camera and exposure time are drawn from it.
    Else the exposure time is `seconds`, or drawn between two of them.
    """
    block = recipe.instrument
    if recipe.data.simulated is not None and recipe.data.simulated.cameras is not None:
        block, seconds = draw_camera(recipe.data.simulated.cameras, block, field_type, seed)
    elif isinstance(seconds, Sequence):
        seconds = _drawn(seconds, field_type, seed)
    if not is_of_hst(block):
        return PlainVisit(block, field_type, seed, exposures, seconds, side, same_pixels, recipe.data.product)
    images = [kind for kind in get_args(SimulatedFieldType) if kind == field_type]
    if not images:
        raise UsageError(
            f"rehearsal.exposure_time_s: {block.instrument}/{block.detector} takes images: expected "
            f"{', '.join(get_args(SimulatedFieldType))}, got {field_type}"
        )
    return SimulatedVisit(simulated(block), images[0], seed, exposures, seconds, side)


def _drawn(limits: Sequence[float], field_type: FieldType, seed: int) -> float:
    rng = np.random.default_rng([FIELD_TYPES.index(field_type), seed])
    return log_uniform(limits, rng)


def check(visit: Visit) -> None:
    """Raise `UsageError` if a visit cannot be simulated."""
    simulation.check(visit) if isinstance(visit, SimulatedVisit) else plainvisits.check(visit)


def write(visit: Visit, folder: Path) -> list[Path]:
    """Simulate a visit, write its files with the truth beside each, and return the paths of the exposures."""
    return write_visit(visit, folder) if isinstance(visit, SimulatedVisit) else write_plain_visit(visit, folder)
