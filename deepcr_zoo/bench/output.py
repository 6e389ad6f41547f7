"""The folder that a benchmark writes to, where files of the user's own are neither replaced nor removed.

A hidden list names what earlier benchmarks have written. A run's folder is ours as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from deepcr_zoo import files
from deepcr_zoo.documents import MOST_BYTES, Document, as_json
from deepcr_zoo.errors import OutputError
from deepcr_zoo.zoo.runfolders import FACTS_FILE, RunFacts

LIST_FILE = ".deepcr-zoo-bench.json"
ELSEWHERE = "name another folder with --output-dir"

Name = Annotated[str, Field(max_length=500, pattern=r"^[^/.\\\x00][^/\\\x00]*(/[^/.\\\x00][^/\\\x00]*)?$")]
"""A name below the folder; hidden ones are excluded."""


class Written(Document):
    """`LIST_FILE`: names of files that benchmarks have written, below the folder."""

    files: list[Name]


def check(folder: Path, names: Collection[str]) -> set[str]:
    """Return the names that earlier benchmarks have written; `OutputError` if one of those to write is of others.

    A link in place of a folder below raises `IntegrityError`.
    """
    listed, is_run = _listed(folder), _is_run(folder)
    for inside in {(folder / name).parent for name in (*names, *listed)} - {folder}:
        files.refuse_links(inside, folder)  # in a run of others it leads to files of the user
    for name in names:
        if os.path.lexists(folder / name) and not is_run and name not in listed:
            raise OutputError(f"{folder / name}: exists and is not of deepcr-zoo bench: move it away, or {ELSEWHERE}")
    return listed


def replace(folder: Path, contents: Mapping[str, bytes], stale: str | None = None) -> None:
    """Write some files in place of those of an earlier benchmark; remove those in `stale`, a folder, that are obsolete."""
    before = check(folder, contents)
    with files.reporting_failures(folder, ELSEWHERE):
        _write_list(folder, {*before, *contents})  # first, so that a killed process leaves no file that looks foreign
        files.write_together({folder / name: data for name, data in contents.items()})
        gone = {name for name in before if stale is not None and name.startswith(f"{stale}/")} - contents.keys()
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        if gone:
            _write_list(folder, {*before, *contents} - gone)


def _is_run(folder: Path) -> bool:
    """True if a folder is a run; other programs have files of this name, too."""
    try:
        RunFacts.model_validate_json(files.read_file(folder / FACTS_FILE, MOST_BYTES))
    except (OSError, ValidationError):
        return False
    return True


def _listed(folder: Path) -> set[str]:
    try:
        return set(Written.model_validate_json(files.read_file(folder / LIST_FILE, MOST_BYTES)).files)
    except (OSError, ValidationError):
        return set()


def _write_list(folder: Path, names: Iterable[str]) -> None:
    files.write_atomically(as_json(Written(files=sorted(names))), folder / LIST_FILE)
