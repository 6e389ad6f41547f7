"""A small model that is ready to be published, and a checkout to put its entry into."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepcr_zoo.publishing.releases import Release, release_of_model
from deepcr_zoo.zoo.registry import read_registry
from tests.registries import SMALL, copy_registry


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A registry with one small model, which is on no Hub."""
    return copy_registry(tmp_path / "checkout")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Version 1.0 of that model; its gates take a second, so that all tests share it."""
    registry = read_registry(copy_registry(tmp_path_factory.mktemp("release")))
    return release_of_model(registry.resolve(SMALL))
