"""Visits that are simulated once, and a training set that is built once, for all tests of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from deepcr_zoo.dataset import drizzle
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import Home
from tests import warm
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


def made_once(folder: Path, write: Callable[[Path], object]) -> Path:
    """Fill a folder in the first process that asks for it; it appears under its name when it is whole."""
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            unfinished = folder.with_name(f"unfinished-{folder.name}")
            write(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def exposures(shared_folder: Path) -> Path:
    """Folder with a visit of each field type; its files are not to be changed."""
    return made_once(shared_folder / "exposures", write_three)


@contextmanager
def quick_drizzlepac() -> Iterator[None]:
    """Fork the processes of drizzlepac from one that has imported it, which takes longer than to label a small visit."""
    python = warm.programs(("drizzlepac.astrodrizzle", "drizzlepac.tweakreg")) / "python"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drizzle, "sys", SimpleNamespace(executable=str(python)))
        yield


@pytest.fixture
def drizzlepac_starts_at_once() -> Iterator[None]:
    """For tests of what is labelled; not for those of its processes."""
    with quick_drizzlepac():
        yield


@pytest.fixture(scope="session")
def built(shared_folder: Path, exposures: Path) -> Dataset:
    """The training set of these visits; its files are not to be changed."""
    with FileLock(shared_folder / "built.lock"), quick_drizzlepac():
        return build_dataset(three_visits(exposures), [exposures], home=Home(shared_folder / "home"))


@pytest.fixture(scope="session")
def dark_folder(shared_folder: Path) -> Path:
    """Folder with dark exposures and their truth; its files are not to be changed."""
    return made_once(shared_folder / "darks", write_darks)
