"""Visits that are simulated once, and a training set that is built once, for all tests of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import Home
from tests.archive.fixtures import archive, empty_archive, one_visit, recipe, recipe_file  # noqa: F401
from tests.dataset.darks import write_darks
from tests.dataset.visits import three_visits, write_three


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "visits-of-this-run"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def exposures(shared_folder: Path) -> Path:
    """Folder with a visit of each field type; its files are not to be changed."""
    with FileLock(shared_folder / "exposures.lock"):
        done = shared_folder / "exposures"
        if not done.exists():
            write_three(shared_folder / "unfinished")
            (shared_folder / "unfinished").rename(done)
    return done


@pytest.fixture(scope="session")
def built(shared_folder: Path, exposures: Path) -> Dataset:
    """The training set of these visits; its files are not to be changed."""
    with FileLock(shared_folder / "built.lock"):
        return build_dataset(three_visits(exposures), [exposures], home=Home(shared_folder / "home"))


@pytest.fixture(scope="session")
def dark_folder(shared_folder: Path) -> Path:
    """Folder with dark exposures and their truth; its files are not to be changed."""
    with FileLock(shared_folder / "darks.lock"):
        done = shared_folder / "darks"
        if not done.exists():
            write_darks(shared_folder / "unfinished-darks")
            (shared_folder / "unfinished-darks").rename(done)
    return done
