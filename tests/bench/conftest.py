"""A training set of made-up test stamps and two small networks of the zoo, for all tests of this folder."""

from __future__ import annotations

import pytest

import deepcr_zoo
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.model import InpaintModel, MaskModel
from tests.bench.stamps import recipe_of, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two exposures with three test stamps of each field type; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("stamps"), recipe_of())


@pytest.fixture(scope="session")
def finder() -> MaskModel:
    """A mask network."""
    model = deepcr_zoo.load("mask/ACS-WFC-F606W-2-4", "cpu", engine="torch", source="seed")
    assert isinstance(model, MaskModel)
    return model


@pytest.fixture(scope="session")
def painter() -> InpaintModel:
    """An inpainting network."""
    model = deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32", "cpu", engine="torch", source="seed")
    assert isinstance(model, InpaintModel)
    return model
