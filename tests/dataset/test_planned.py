"""Visits that a recipe simulates in place of exposures."""

from __future__ import annotations

import pytest

from deepcr_zoo.dataset.planned import simulated_visits
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe


def times(setting: str, field_type: str = "extragalactic") -> list[float]:
    settings = ["data.simulated.visits.extragalactic.train=20", f"data.simulated.exposure_time_s={setting}"]
    visits = simulated_visits(read_recipe(find_recipe("acs-wfc-f606w-3-16"), settings))
    return [one.simulated.exposure_time_s for one in visits if one.simulated is not None and one.field_type == field_type]


def test_each_visit_draws_its_exposure_time_from_a_range():
    drawn = times("{extragalactic: [10, 1000]}")
    assert len(set(drawn)) == len(drawn) > 20
    assert 10 < min(drawn) < 50
    assert 200 < max(drawn) < 1000
    assert times("{extragalactic: [10, 1000], globular_cluster: 40}") == drawn
    assert set(times("{globular_cluster: 40}", "globular_cluster")) == {40}


def test_a_range_that_falls_and_a_missing_time_are_refused():
    with pytest.raises(DeepcrZooError, match=r"exposure_time_s.*the smaller number first"):
        times("{extragalactic: [100, 10]}")
    with pytest.raises(DeepcrZooError, match="exposure_time_s of extragalactic"):
        read_recipe(find_recipe("ccd-any"), ["data.simulated.cameras=null"])
