"""The folder that a benchmark writes to, where files of the user's own are neither replaced nor removed.

A hidden list names what earlier benchmarks have written, with hashes: a list of others may name files of the user. A run's
folder is ours as a whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from deepcr_zoo import files
from deepcr_zoo.documents import MOST_BYTES, Document, as_json
from deepcr_zoo.errors import OutputError
from deepcr_zoo.zoo.registry import Sha256
from deepcr_zoo.zoo.runfolders import FACTS_FILE, RunFacts

LIST_FILE = ".deepcr-zoo-bench.json"
PAGE, PICTURES = "report.html", "report"  # the report, and the folder of its pictures
ELSEWHERE = "name another folder with --output-dir"

Name = Annotated[str, Field(max_length=500, pattern=r"^[^/.\\\x00][^/\\\x00]*(/[^/.\\\x00][^/\\\x00]*)?$")]
"""A name below the folder; hidden ones are excluded."""


class Written(Document):
    """`LIST_FILE`: what benchmarks have written, by name below the folder."""

    files: dict[Name, list[Sha256]] = Field(description="hashes; of two, the benchmark was killed as it replaced the file")


def check(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return the hashes of the files that earlier benchmarks have written, by name.

    One of `names` that is of others raises `OutputError`, a link in place of a folder below `IntegrityError`.
    """
    listed, is_run = _listed(folder), _is_run(folder)
    for inside in {(folder / name).parent for name in (*names, *listed)} - {folder}:
        files.refuse_links(inside, folder)  # in a run of others it leads to files of the user
    found = ((name, _sha256(folder / name)) for name in listed)
    ours = {name: sha256 for name, sha256 in found if sha256 is not None and sha256 in listed[name]}
    for name in names:
        if os.path.lexists(folder / name) and not is_run and name not in ours:
            raise OutputError(f"{folder / name}: exists and is not of deepcr-zoo bench: move it away, or {ELSEWHERE}")
    return ours


def check_run(folder: Path, alone: Path | None) -> None:
    """Raise `OutputError` if a folder is that of a run, and not of the one that is benchmarked `alone`."""
    if _is_run(folder) and (alone is None or not folder.samefile(alone)):
        raise OutputError(f"{folder}: is the folder of a run, whose own benchmark would be replaced: {ELSEWHERE}")


def remove_report(folder: Path) -> None:
    """Remove the report of earlier results: beside new ones it would be taken for theirs."""
    ours = check(folder, ())
    with files.reporting_failures(folder, ELSEWHERE):
        for name in sorted(ours, key=lambda name: name != PAGE):
            if name == PAGE or name.startswith(f"{PICTURES}/"):
                (folder / name).unlink(missing_ok=True)


def replace(folder: Path, contents: Mapping[str, bytes], stale: str | None = None) -> None:
    """Write some files in place of those of an earlier benchmark; remove those in `stale`, a folder, that are obsolete."""
    before = check(folder, contents)
    after = before | {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    with files.reporting_failures(folder, ELSEWHERE):
        _write_list(folder, before, after)  # first, so that a killed process leaves no file that looks foreign
        files.write_together({folder / name: data for name, data in contents.items()})
        gone = {name for name in before if stale is not None and name.startswith(f"{stale}/")} - contents.keys()
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        _write_list(folder, {name: sha256 for name, sha256 in after.items() if name not in gone})


def _is_run(folder: Path) -> bool:
    """True if a folder is a run; other programs have files of this name, too."""
    try:
        RunFacts.model_validate_json(files.read_file(folder / FACTS_FILE, MOST_BYTES))
    except (OSError, ValidationError):
        return False
    return True


def _listed(folder: Path) -> dict[str, list[str]]:
    try:
        return Written.model_validate_json(files.read_file(folder / LIST_FILE, MOST_BYTES)).files
    except (OSError, ValidationError):
        return {}


def _sha256(path: Path) -> str | None:
    """Return the hash of a file; None if it is none, or cannot be read."""
    try:
        return None if path.is_symlink() else files.sha256_of(path)
    except OSError:
        return None


def _write_list(folder: Path, *states: Mapping[str, str]) -> None:
    """Write the list of what the folder may hold: one of these states, or a part of each."""
    names = sorted({name for state in states for name in state})
    hashes = {name: sorted({state[name] for state in states if name in state}) for name in names}
    files.write_atomically(as_json(Written(files=hashes)), folder / LIST_FILE)
