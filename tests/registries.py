"""Small registries on disk, made from the shipped one, for tests that need to change something."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deepcr_zoo import locations
from deepcr_zoo.zoo.registry import LockedFile

Change = Callable[[dict[str, Any]], None]
SMALL = "mask/ACS-WFC-F606W-2-4"


def copy_registry(root: Path, *references: str) -> Path:
    """Copy some entries, with their cards and weights, and nothing else, under `root`."""
    shipped = locations.data_root()
    for reference in references or (SMALL,):
        (root / "zoo" / reference).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shipped / "zoo" / f"{reference}.yaml", root / "zoo" / f"{reference}.yaml")
        shutil.copytree(shipped / "cards" / reference, root / "cards" / reference)
        shutil.copytree(shipped / "zoo" / "weights" / reference, root / "zoo" / "weights" / reference)
        shutil.copy(shipped / "zoo" / "weights" / "LICENSE.deepCR", root / "zoo" / "weights" / "LICENSE.deepCR")
    return root


def edit(path: Path, change: Change) -> None:
    """Apply `change` to the content of a YAML file."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def edit_entry(root: Path, change: Change, reference: str = SMALL) -> None:
    """Change a registry entry."""
    edit(root / "zoo" / f"{reference}.yaml", change)


def edit_card(root: Path, change: Change, reference: str = SMALL, version: str = "1.0") -> None:
    """Change a card and lock its new hash, as if it had been released so."""
    card = root / "cards" / reference / f"{version}.yaml"
    edit(card, change)
    locked = LockedFile.of(card.read_bytes()).model_dump()
    edit_entry(root, lambda entry: entry["versions"][version].update(card=locked), reference)
