"""Weights that give no numbers are refused; NaN is never taken for a clean image."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.models.model import load_files
from deepcr_zoo.models.verification import compare
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from tests.registries import SMALL

MODEL = default_registry().resolve(SMALL)
CARD = read_card(MODEL)
STATE = safetensors.torch.load(sources.fetch(MODEL, WEIGHTS_FILE).data)
IMAGE = np.random.default_rng(1).normal(60, 8, (64, 64)).astype(np.float32)


def load(name, value, model=MODEL, engine="torch"):
    card = read_card(model)
    state = safetensors.torch.load(sources.fetch(model, WEIGHTS_FILE).data)
    state[name] = torch.full_like(state[name], value)
    return load_files(weights.serialise(state), card, model.locked.architecture, "mine", "cpu", engine=engine)


@pytest.mark.parametrize("name", sorted(name for name in STATE if name.endswith("running_var"))[1:])
def test_negative_variances_are_refused_at_load(name):
    with pytest.raises(InvalidWeightsError, match=f"mine: {name}: expected variances of 0 or more, got -1"):
        load(name, -1.0)


def test_weights_that_are_not_finite_once_folded_are_refused_at_load():
    with pytest.raises(InvalidWeightsError, match=r"mine: decoder.0.conv1.bias: expected finite numbers with BatchNorm"):
        load("decoder.0.norm1.weight", 3e38)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_output_that_is_not_finite_is_an_error_of_a_mask(engine):
    if engine == "openvino" and find_spec("openvino") is None:  # an import here would not be isolated
        pytest.skip("needs openvino")
    model = load("head.weight", 3e38, engine=engine)
    for work in (model.logits, model.predict, model.mask):
        with pytest.raises(InvalidWeightsError, match=r"mine: the network gives values that are not finite"):
            work(IMAGE)


def test_an_output_that_is_not_finite_is_an_error_of_a_filling():
    model = load("head.bias", 3.3e38, default_registry().resolve("inpaint/ACS-WFC-F606W-2-32"))  # finite until scaled
    with pytest.raises(InvalidWeightsError, match="not finite"):
        model.fill(IMAGE, IMAGE > 80)


def vector_with(**changes):
    arrays = safetensors.numpy.load(sources.fetch(MODEL, TEST_VECTOR_FILE).data)
    return safetensors.numpy.save({**arrays, **changes})


@pytest.mark.parametrize("name", ["image", "expected"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_test_vector_without_numbers_is_refused(name, value):
    arrays = safetensors.numpy.load(sources.fetch(MODEL, TEST_VECTOR_FILE).data)
    wrong = arrays[name].copy()
    wrong[3, 4] = value
    with pytest.raises(InvalidWeightsError, match=f"test vector: {name}: expected numbers"):
        testvectors.read(vector_with(**{name: wrong}), "mine")


def test_a_test_vector_without_a_cosmic_ray_is_refused():
    with pytest.raises(InvalidWeightsError, match="test vector: mask: expected a cosmic ray"):
        testvectors.read(vector_with(mask=np.zeros(testvectors.SHAPE, np.uint8)), "mine")


def test_a_bright_pixel_outside_of_the_mask_hides_no_difference():
    model = load_files(
        sources.fetch(inpaint := default_registry().resolve("inpaint/ACS-WFC-F606W-2-32"), WEIGHTS_FILE).data,
        read_card(inpaint),
        inpaint.locked.architecture,
        "mine",
        "cpu",
    )
    vector = testvectors.read(sources.fetch(inpaint, TEST_VECTOR_FILE).data, "mine")
    row, column = np.argwhere(~vector.mask)[0]
    for values in (vector.image, vector.expected):
        values[row, column] = 9e8
    vector.expected[vector.mask] *= 1.5
    assert compare(model, vector).verdict == "runs but differs"
