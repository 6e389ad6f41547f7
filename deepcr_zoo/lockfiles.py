"""The files of a registry that travel: lock, cards and licences, as they are published and fetched again."""

from __future__ import annotations

import re
from pathlib import Path

from deepcr_zoo.errors import UpdateError
from deepcr_zoo.names import NAME_PATTERN, VERSION_PATTERN

MOST_FILES = 10_000
MOST_BYTES = 1_000_000
"""Of a file; the largest card has a few thousand."""

_ALLOWED = re.compile(
    rf"zoo/(mask|inpaint)/{NAME_PATTERN}\.yaml"
    rf"|cards/(mask|inpaint)/{NAME_PATTERN}/{VERSION_PATTERN}(\.results|\.recipe)?\.yaml"
    r"|zoo/training_visits\.yaml|zoo/weights/LICENSE\.[A-Za-z0-9]+|LICENSE"
)


def is_lock_file(name: str) -> bool:
    """Whether a file of this name, relative to the registry's root, is part of a registry; nothing else is ever written."""
    return _ALLOWED.fullmatch(name) is not None


def lock_files(root: Path) -> dict[str, bytes]:
    """Every such file below a registry's root, by name, in stable order.

    Raises
    ------
    UpdateError
        If one is too large.
    """
    names = [path.relative_to(root).as_posix() for part in ("zoo", "cards", "LICENSE") for path in _files(root / part)]
    found = {name: (root / name).read_bytes() for name in sorted(names) if is_lock_file(name)}
    for name, data in found.items():
        check_size(name, len(data))
    return found


def check_size(name: str, size: int | None) -> None:
    """Refuse a file that no registry could have.

    Raises
    ------
    UpdateError
    """
    if size is None or size > MOST_BYTES:
        raise UpdateError(f"{name}: expected at most {MOST_BYTES:,} bytes, got {size}: nothing was changed")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
