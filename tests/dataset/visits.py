"""Simulated visits on the disk, and recipes that take them for real ones."""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

SIDE, STAMP, BORDER = 384, 64, 32
PER_EXPOSURE = 25
EXPOSURES = 3
SEEDS = {"extragalactic": 410, "globular_cluster": 411, "resolved_galaxy": 412}
TIMES = {"extragalactic": 500.0, "globular_cluster": 250.0, "resolved_galaxy": 600.0}


def shipped(*settings: str) -> Recipe:
    """The recipe of the deepCR paper's mask network, with overrides."""
    return read_recipe(find_recipe("acs-wfc-f606w"), settings)


def simulate(folder: Path, field_type: str, exposures: int = EXPOSURES, seed: int | None = None) -> list[Path]:
    """Write a small visit."""
    visit = SimulatedVisit(
        shipped().instrument, field_type, SEEDS[field_type] if seed is None else seed, exposures, TIMES[field_type], SIDE
    )
    return write_visit(visit, folder)


def rule(file: Path, field_type: str, split: str | None = "train", **more: Any) -> dict[str, Any]:
    """A rule that takes in the visit of a file, and no other."""
    header = fits.getheader(file)
    return {
        "proposal": header["PROPOSID"],
        "visit": header["LINENUM"].partition(".")[0],
        "field_type": field_type,
        "split": split,
        **more,
    }


def recipe_of(rules: dict[str, dict[str, Any]], *settings: str) -> Recipe:
    """A recipe whose data are these visits, with small stamps."""
    small = (f"build.stamps.size={STAMP}", f"build.stamps.border={BORDER}")
    content = shipped(*small, *settings).model_dump()
    content["data"]["visits"] = rules
    return Recipe.model_validate(content)


def three_visits(folder: Path, *settings: str, field_types: Sequence[str] = SIMULATED_FIELD_TYPES) -> Recipe:
    """A recipe of the visits that `write_three` has written, or of some: the globular cluster is for testing."""
    rules = {
        field_type: rule(
            min((folder / field_type).glob("*_flc.fits")),
            field_type,
            "test" if field_type == "globular_cluster" else "train",
            exposures=EXPOSURES,
        )
        for field_type in field_types
    }
    return recipe_of(rules, *settings)


def write_three(folder: Path) -> None:
    """A visit of each field type, in a folder each."""
    for field_type in SIMULATED_FIELD_TYPES:
        simulate(folder / field_type, field_type)


def copy_changed(file: Path, folder: Path, change: Callable[[fits.HDUList], None] | None = None) -> Path:
    """A copy of an exposure, changed."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / file.name
    shutil.copy(file, copy)
    if change is not None:
        with fits.open(copy, mode="update") as hdus:
            change(hdus)
    return copy


def chips(file: Path, name: str) -> list[np.ndarray]:
    """Arrays of the extensions of a name."""
    with fits.open(file) as hdus:
        return [np.array(hdu.data) for hdu in hdus if hdu.name == name]


def content(dataset: Dataset) -> dict[str, str]:
    """Hashes of the manifest and of all files that it refers to, by name."""
    visits = [dataset.home.visit(visit.record.key) for visit in dataset.manifest.visits]
    files = [dataset.folder / "manifest.json", *(path for visit in visits for path in visit.iterdir())]
    return {str(path.relative_to(dataset.home.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def unfinished(home: Path, name: str) -> list[Path]:
    """Files of visits that are being made; folders may vanish meanwhile."""
    return [home / one for one in glob.glob(f"visits/.*/**/{name}", root_dir=home, recursive=True, include_hidden=True)]
