"""An archive with simulated visits, and the real astroquery pointed at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deepcr_zoo.archive import pace
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, Recipe
from tests.archive.server import ArchiveServer, serve
from tests.dataset.visits import three_visits


@pytest.fixture
def empty_archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    """An archive that holds nothing yet."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with serve() as server:
        monkeypatch.setenv("DEEPCR_ZOO_MAST", server.url)
        yield server


@pytest.fixture
def archive(empty_archive: ArchiveServer, exposures: Path) -> ArchiveServer:
    """An archive that holds a visit of each field type: two as associations, one as single exposures."""
    for field_type in SIMULATED_FIELD_TYPES:
        empty_archive.add_visit(
            sorted((exposures / field_type).glob("*_flc.fits")), together=field_type != "resolved_galaxy"
        )
    return empty_archive


@pytest.fixture
def recipe(exposures: Path) -> Recipe:
    """A recipe of these visits."""
    return three_visits(exposures)


@pytest.fixture
def one_visit(exposures: Path) -> Recipe:
    """A recipe of the extragalactic visit alone."""
    return three_visits(exposures, field_types=("extragalactic",))


@pytest.fixture
def recipe_file(recipe: Recipe, tmp_path: Path) -> Path:
    """The recipe of all visits as a file."""
    path = tmp_path / "three.yaml"
    path.write_bytes(as_yaml(recipe))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits where the archive gives no time."""
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("deepcr_zoo.archive.transfers.WAIT_S", 0.01)
