"""A training set that all tests of the training core read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepcr_zoo.dataset.reading import Dataset
from tests.training.stamps import write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 stamps for training, 9 for validation; its files are not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("made-up") / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test writes a training set of its own."""
    return tmp_path / "home"
