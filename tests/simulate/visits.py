"""Small simulated visits for tests."""

from __future__ import annotations

import yaml

from deepcr_zoo.simulate.simulation import SimulatedVisit
from deepcr_zoo.zoo.recipe import FieldType, SimulatedInstrument
from tests.conftest import CHECKOUT

EXPOSURE_TIME_S = 500.0


def instrument(name: str = "acs-wfc") -> SimulatedInstrument:
    """The instrument block of a recipe that ships."""
    text = (CHECKOUT / "recipes" / "base" / f"{name}.yaml").read_text()
    return SimulatedInstrument(**yaml.safe_load(text)["instrument"])


def small_visit(
    seed: int = 1,
    field_type: FieldType = "extragalactic",
    name: str = "acs-wfc",
    exposures: int = 2,
    side: int | None = 256,
) -> SimulatedVisit:
    return SimulatedVisit(instrument(name), field_type, seed, exposures, EXPOSURE_TIME_S, side)
