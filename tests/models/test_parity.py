"""Each seed model agrees with upstream's own network class and upstream's own file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo.models import testvectors
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.records import read_records
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE
from tests.published_networks import PUBLISHED
from tests.upstream import parity

FEW = ("mask/ACS-WFC-F606W-2-4@1.0",)
"""The others are slow."""


@pytest.mark.network
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in PUBLISHED])
def test_a_seed_model_agrees_with_upstreams_own_network(name: str, upstream_sdists: Path, tmp_path: Path) -> None:
    resolved = default_registry().resolve(name)
    model, tolerance = deepcr_zoo.load(name), parity.tolerance(resolved)
    for case in parity.run_upstream(resolved, upstream_sdists, tmp_path):
        if isinstance(model, MaskModel):
            threshold = PUBLISHED[name][4]
            tie = np.abs(case.reference - threshold) < tolerance
            np.testing.assert_array_equal(model.mask(case.image)[~tie], (case.reference > threshold)[~tie])
            assert (case.reference > threshold).any()  # the scene holds cosmic rays that upstream finds
        else:
            outside = ~case.cosmic_rays
            np.testing.assert_array_equal(case.found(model)[outside], case.image[outside])
        assert case.difference(model) <= tolerance, case.name
        if case.name == parity.TEST_VECTOR:
            vector = testvectors.read(sources.fetch(resolved, TEST_VECTOR_FILE).data, name)
            assert np.abs(vector.expected - case.reference).max() <= tolerance * case.unit


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parity_of_a_seed_model_is_on_record(name: str) -> None:
    resolved = default_registry().resolve(name)
    upstream, latest = read_card(resolved).provenance.upstream, read_records(resolved).parity[-1]
    assert upstream is not None
    assert latest.max_difference <= latest.tolerance == parity.tolerance(resolved)
    assert (latest.package, latest.release, latest.file_sha256) == ("deepCR", upstream.release, PUBLISHED[name][0])
    assert latest.weights_sha256 == resolved.locked.weights.sha256
