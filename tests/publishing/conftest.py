"""A small model that is ready to be published, a checkout to put its entry into, and a contract server."""

from __future__ import annotations

import pytest

from deepcr_zoo.publishing.releases import release_of_model
from deepcr_zoo.zoo.registry import read_registry
from tests.registries import SMALL, copy_registry


@pytest.fixture
def checkout(tmp_path):
    """A registry with one small model, which is on no Hub."""
    return copy_registry(tmp_path / "checkout")


@pytest.fixture
def release(checkout):
    """Version 1.0 of that model."""
    return release_of_model(read_registry(checkout).resolve(SMALL))
