"""Writing files so that nothing is ever half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PARTIAL = ".part"


def write_atomically(data: bytes, path: Path) -> None:
    """Write `data` so that `path` holds either the old content or all of the new, whatever happens."""
    write_together({path: data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each atomically, and none of them before all are on the disk.

    Parameters
    ----------
    contents : mapping of Path to bytes
    """
    partial: dict[Path, str] = {}
    try:
        for path, data in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial[path], 0o644)
        for path, temporary in partial.items():
            os.replace(temporary, path)
    except BaseException:
        for temporary in partial.values():
            Path(temporary).unlink(missing_ok=True)
        raise


def sweep_partial(path: Path) -> None:
    """Remove what a killed process may have left of an unfinished `path`."""
    # listed, not globbed: the name may hold wildcards
    if path.parent.is_dir():
        for leftover in os.listdir(path.parent):
            if leftover.startswith(f".{path.name}.") and leftover.endswith(_PARTIAL):
                (path.parent / leftover).unlink(missing_ok=True)
