"""A training set that all tests of the training core read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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


# of a whole module, so that runs in fixtures are trained so, too
@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than stamps this small, the more so beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
