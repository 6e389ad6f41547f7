"""Fixtures of the archive, and the visits that it holds."""

from __future__ import annotations

from tests.archive.fixtures import archive, empty_archive, impatient, one_visit, recipe, recipe_file
from tests.dataset.conftest import exposures, shared_folder

__all__ = ["archive", "empty_archive", "exposures", "impatient", "one_visit", "recipe", "recipe_file", "shared_folder"]
