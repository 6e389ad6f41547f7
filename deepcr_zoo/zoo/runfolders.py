"""The folder of a run as other rooms read it: what it was made from, and its model, which is used like those of the zoo."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path

from pydantic import Field, ValidationError

from deepcr_zoo import documents, files
from deepcr_zoo.documents import Document, parse_document
from deepcr_zoo.errors import RunError
from deepcr_zoo.zoo import names
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registry import (
    CARD_FILE,
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    FolderModel,
    LockedFile,
    LockedVersion,
    Origin,
    Sources,
)

RECIPE_FILE, FACTS_FILE = "recipe.yaml", "run.json"
REHEARSED = "trained on simulated exposures: a rehearsal, not for science"
"""Caution of every network of a rehearsal."""


class RunFacts(Document):
    """``run.json``: what a run was made from."""

    name: str
    task: str
    started: str = Field(description="UTC")
    command: str
    rehearsal: bool
    recipe_sha256: str
    dataset: str = Field(description="folder of the training set")
    manifest_sha256: str


def is_run_folder(given: str | os.PathLike[str]) -> bool:
    """True for a folder of a run, and for any other folder whose path cannot be the name of a model."""
    text = os.fspath(given)
    return os.path.isdir(text) and (os.path.isfile(os.path.join(text, FACTS_FILE)) or not names.is_name(text))


def read_run(folder: Path) -> tuple[Recipe, RunFacts]:
    """Return recipe and facts of a run; a `RunError` if the folder holds none, or its recipe was changed."""
    try:
        facts = RunFacts.model_validate_json(files.read_file(folder / FACTS_FILE))
        text = files.read_file(folder / RECIPE_FILE)
    except PermissionError as error:
        raise RunError(f"{error.filename}: cannot be read: {error.strerror}: make it readable") from None
    except (OSError, ValidationError):
        raise RunError(f"{folder}: expected the folder of a run, which holds {FACTS_FILE} and {RECIPE_FILE}") from None
    if hashlib.sha256(text).hexdigest() != facts.recipe_sha256:
        raise RunError(f"{folder / RECIPE_FILE}: was changed after the run had started: restore it, or start a new run")
    return parse_document(text, Recipe, folder / RECIPE_FILE), facts


def run_name(folder: Path) -> str:
    """Return the version that the model of a run has before it is published."""
    return f"run-{Path(os.path.abspath(folder)).name}"


def run_model(folder: Path) -> FolderModel:
    """Return the model of a finished run, locked to the bytes that its files have now."""
    recipe, facts = read_run(folder)
    if not files.is_file(folder / CARD_FILE):
        raise RunError(f"{folder}: has no model yet: deepcr-zoo train --resume {folder} finishes it")
    card_bytes = documents.read_file(folder / CARD_FILE, folder / CARD_FILE)
    card = parse_document(card_bytes, Card, folder / CARD_FILE)
    locked = LockedVersion(
        released=datetime.date.fromisoformat(facts.started[: len("2026-01-01")]),
        architecture=recipe.train.architecture,
        weights=_locked(folder / WEIGHTS_FILE),
        test_vector=_locked(folder / TEST_VECTOR_FILE),
        card=LockedFile.of(card_bytes),
        sources=Sources(seed=True),
        warning=REHEARSED if facts.rehearsal else None,
    )
    called = f"{facts.task}/{facts.name}@{run_name(folder)}"
    return FolderModel.of(card, locked, Origin(folder, "run", registry=f"runs/{run_name(folder)}"), called)


def _locked(path: Path) -> LockedFile:
    try:
        return LockedFile.of(files.read_file(path))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
