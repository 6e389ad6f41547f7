"""Writing the folder of a run; `deepcr_zoo.bench.runs` reads it.

``runs/NAME/TIMESTAMP-HASH/``: the hash is of the recipe and the training set, so equal hashes are equal runs.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from deepcr_zoo import machine
from deepcr_zoo._version import __version__
from deepcr_zoo.bench.runs import METRICS_FILE, EpochRecord, Run
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import key_of
from deepcr_zoo.documents import Document, as_json, brief, json_bytes
from deepcr_zoo.errors import RunError
from deepcr_zoo.files import scratch_folder, sweep_leftovers, write_atomically, write_failure
from deepcr_zoo.training.checkpoints import reporting_run_failures
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.runfolders import FACTS_FILE, RECIPE_FILE, RunFacts

ENVIRONMENT_FILE = "environment.json"
LOSS_PICTURE, STAMPS_PICTURE = "loss.png", "stamps.png"
MOST_RUNS_IN_A_SECOND = 1000
PACKAGES = ("torch", "numpy", "scipy", "astropy", "drizzlepac", "safetensors", "pydantic")


def new_run(recipe: Recipe, dataset: Dataset, runs: Path, command: str) -> Run:
    """Make a run's folder, which has its recipe and facts as soon as it can be seen."""
    now = datetime.datetime.now(datetime.UTC)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode()
    facts = RunFacts(
        name=recipe.name,
        task=recipe.task,
        started=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        command=command,
        rehearsal=dataset.manifest.rehearsal,
        recipe_sha256=hashlib.sha256(text).hexdigest(),
        dataset=str(dataset.folder.absolute()),
        manifest_sha256=dataset.manifest_sha256,
        inherited=inherited_weights(recipe),
    )
    made_from: dict[str, Any] = {"recipe": facts.recipe_sha256, "manifest": facts.manifest_sha256}
    key = key_of(made_from | ({"inherited": facts.inherited} if facts.inherited else {}))[:8]
    try:
        contents = {RECIPE_FILE: text, FACTS_FILE: as_json(facts)}
        folder = _make_folder(runs / recipe.name, f"{now:%Y%m%dT%H%M%S}", key, contents)
    except OSError as error:
        raise write_failure(runs, error, "name another folder with --runs") from None
    return Run(folder, recipe, facts)


def inherited_weights(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of the weights of each model that a recipe starts or learns from, by its name there."""
    resolve = default_registry().resolve
    return {name: resolve(for_task(name, recipe.task)).locked.weights.sha256 for name in recipe.train.inherited}


def check_inherited(run: Run) -> None:
    """Raise `RunError` if a model that the run started or learns from has other weights here."""
    found = inherited_weights(run.recipe)
    for name, sha256 in run.facts.inherited.items():  # older runs have not recorded any
        if name not in found:
            raise RunError(f"{run.folder}: damaged: {FACTS_FILE} names a model that its recipe does not: {brief(name)}")
        if found[name] != sha256:
            raise RunError(
                f"{run.folder}: {name} has other weights here (sha256 {found[name][:12]}...) than when the run began "
                f"({sha256[:12]}...): bring these back, or begin a new run"
            )


def _make_folder(parent: Path, timestamp: str, key: str, contents: Mapping[str, bytes]) -> Path:
    """Make a new folder with some files; runs that start in the same second get numbers."""
    sweep_leftovers(parent)
    with scratch_folder(parent / f"{timestamp}-{key}") as scratch:
        for name, data in contents.items():
            write_atomically(data, scratch / name)
        for number in range(1, MOST_RUNS_IN_A_SECOND):
            folder = parent / (f"{timestamp}-{key}" if number == 1 else f"{timestamp}-{number}-{key}")
            try:
                os.rename(scratch, folder)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another run has this name
                    raise
                continue
            return folder
    raise FileExistsError(parent)


def write_metrics(run: Run, history: list[EpochRecord]) -> None:
    """Write ``metrics.jsonl``, one line per epoch."""
    lines = "".join(record.model_dump_json() + "\n" for record in history)
    with reporting_run_failures(run.folder):
        write_atomically(lines.encode(), run.folder / METRICS_FILE)


class Environment(Document):
    """An entry of ``environment.json``: one for the start, and one each time that the run goes on elsewhere."""

    deepcr_zoo: str
    git_commit: str | None
    """Commit of the checkout that the package runs from, with a + if its files were changed; none if it is installed."""
    python: str
    system: str
    packages: dict[str, str]
    device: str
    device_name: str
    processes: int
    threads: int  # threads of each process; another number may round sums otherwise


_ENVIRONMENTS = TypeAdapter(list[Environment])


def add_environment(run: Run, environment: Environment) -> None:
    """Add to ``environment.json`` where a run is trained, unless that is its last entry already."""
    path = run.folder / ENVIRONMENT_FILE
    try:
        known = _ENVIRONMENTS.validate_json(json_bytes(path)) if path.is_file() else []
    except ValidationError:
        raise RunError(f"{path}: cannot be read: restore it, or remove it") from None
    if known[-1:] != [environment]:
        with reporting_run_failures(run.folder):
            write_atomically(_ENVIRONMENTS.dump_json([*known, environment], indent=1) + b"\n", path)


def current_environment(device: torch.device, processes: int) -> Environment:
    """Return the software and hardware that this process runs on."""
    return Environment(
        deepcr_zoo=__version__,
        git_commit=_git_commit(),
        python=sys.version.split()[0],
        system=platform.platform(),
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor_name(),
        processes=processes,
        threads=torch.get_num_threads(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}  # of another repository
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
