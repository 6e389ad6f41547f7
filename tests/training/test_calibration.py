"""Uncertainties that a network predicts hold 68.3 % of the validation pixels, whatever it predicted before."""

import numpy as np
import pytest
import torch

from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training import calibration
from deepcr_zoo.training.calibration import HEAD_BIAS, calibrated
from deepcr_zoo.training.state import initial_state
from tests.noisenetworks import share_within
from tests.training.stamps import BY_NOISE, recipe_of, write_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[1, 2])
def network(request, tmp_path_factory):
    """A network that was not trained; it may take blocks of pixels."""
    architecture = (f"train.architecture.stride={request.param}", "train.architecture.outputs=2")
    recipe = recipe_of("inpaint", *BY_NOISE, *architecture)
    dataset = write_dataset(tmp_path_factory.mktemp("data"), test=2, recipe=recipe)
    return initial_state(recipe, CPU).network.state_dict(), recipe, dataset


@pytest.mark.parametrize("wrong", [-0.7, -0.2])
def test_the_bias_of_the_uncertainty_alone_changes(network, wrong):
    weights, recipe, dataset = network
    half = len(weights[HEAD_BIAS]) // 2
    bias = weights[HEAD_BIAS].clone()
    bias[half:] = wrong - 1
    given = {**weights, HEAD_BIAS: bias}
    found = calibrated(given, recipe, dataset, CPU)
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, given[name])}
    assert changed == {HEAD_BIAS}
    assert torch.equal(found[HEAD_BIAS][:half], bias[:half])
    assert share_within(found, recipe, dataset) == pytest.approx(0.6827, abs=0.01)
    assert share_within(given, recipe, dataset) != pytest.approx(0.6827, abs=0.01)
    assert torch.equal(bias, given[HEAD_BIAS])  # the state that training goes on from stays


@pytest.mark.parametrize(
    ("true", "problem"),
    [([5, 5], "the 2 masked validation pixels, 0 to 0 % are"), ([0, 0], "100 to 100 % are"), ([], "the 0 masked")],
    ids=["all values are far off", "all values are perfect", "no pixel is masked"],
)
def test_uncertainties_that_no_factor_of_twenty_mends_are_an_error(true, problem, network, monkeypatch):
    weights, recipe, dataset = network
    found = np.float32(true), np.zeros(len(true), np.float32), np.full(len(true), -1, np.float32)
    monkeypatch.setattr(calibration, "masked_pixels", lambda *_: iter([found]))
    with pytest.raises(TrainingError, match=problem):
        calibrated(weights, recipe, dataset, CPU)


def test_what_is_right_stays(network):
    weights, recipe, dataset = network
    once = calibrated(weights, recipe, dataset, CPU)
    again = calibrated(once, recipe, dataset, CPU)
    torch.testing.assert_close(once[HEAD_BIAS], again[HEAD_BIAS], atol=0.01, rtol=0)
