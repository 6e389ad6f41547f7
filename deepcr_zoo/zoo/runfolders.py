"""The folder of a run as other rooms read it: what it was made from, and its model, which is used like those of the zoo."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from deepcr_zoo import documents, files
from deepcr_zoo.documents import Document, parse_document
from deepcr_zoo.errors import RunError, UnknownModelError, command
from deepcr_zoo.zoo import names
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry
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


def _day(started: str) -> datetime.date:
    return datetime.date.fromisoformat(started[: len("2026-01-01")])


def _check_day(started: str) -> str:
    _day(started)
    return started


class RunFacts(Document):
    """``run.json``: what a run was made from."""

    name: str
    task: str
    started: Annotated[str, AfterValidator(_check_day)] = Field(description="UTC")
    command: str
    rehearsal: bool
    recipe_sha256: str
    dataset: str = Field(description="folder of the training set")
    manifest_sha256: str
    inherited: dict[str, str] = Field(
        default={}, description="sha256 of the weights of each model that this one started or learns from"
    )


def is_run_folder(given: str | os.PathLike[str]) -> bool:
    """True for a folder of a run, and for any other folder whose path cannot be the name of a model.

    A text that names a model of a registry means that, whatever folders others have put here: ./NAME means the folder.
    """
    text = os.fspath(given)
    if not os.path.isdir(text) or not names.is_name(text):
        return os.path.isdir(text)
    is_run = os.path.isfile(os.path.join(text, FACTS_FILE))
    return is_run and (isinstance(given, os.PathLike) or not _is_known(text))


def _is_known(name: str) -> bool:
    try:
        default_registry().resolve(name)
    except UnknownModelError:
        return False
    return True


def read_run(folder: Path) -> tuple[Recipe, RunFacts]:
    """Return recipe and facts of a run; a `RunError` if the folder holds none, or its recipe was changed."""
    try:
        facts_text, text = (_read(folder, name) for name in (FACTS_FILE, RECIPE_FILE))
        facts = RunFacts.model_validate_json(facts_text)
    except PermissionError as error:
        raise RunError(f"{error.filename}: cannot be read: {error.strerror}: make it readable") from None
    except (OSError, ValidationError):
        raise RunError(f"{folder}: expected the folder of a run, which holds {FACTS_FILE} and {RECIPE_FILE}") from None
    if hashlib.sha256(text).hexdigest() != facts.recipe_sha256:
        raise RunError(f"{folder / RECIPE_FILE}: was changed after the run had started: restore it, or start a new run")
    recipe = parse_document(text, Recipe, folder / RECIPE_FILE)
    if (facts.task, facts.name) != (recipe.task, recipe.name):
        raise RunError(f"{folder / FACTS_FILE}: expected {recipe.task}/{recipe.name}, as in {RECIPE_FILE}")
    return recipe, facts


def _read(folder: Path, name: str) -> bytes:
    """Return a document of a run; a link, which could lead to any file, raises `IntegrityError`."""
    files.refuse_links(folder / name, folder)
    return files.read_file(folder / name, documents.MOST_BYTES)


def run_name(folder: Path) -> str:
    """Return the version that the model of a run has before it is published."""
    return f"run-{Path(os.path.abspath(folder)).name}"


def run_model(folder: Path) -> FolderModel:
    """Return the model of a finished run, locked to the bytes that its files have now."""
    recipe, facts = read_run(folder)
    if not files.is_file(folder / CARD_FILE):
        raise RunError(f"{folder}: has no model yet: {command('train', '--resume', folder)} finishes it")
    files.refuse_links(folder / CARD_FILE, folder)
    card_bytes = documents.document_bytes(folder / CARD_FILE, folder / CARD_FILE)
    card = parse_document(card_bytes, Card, folder / CARD_FILE)
    if (card.identity.task, card.identity.name) != (facts.task, facts.name):
        raise RunError(f"{folder / CARD_FILE}: identity: expected {facts.task}/{facts.name}, as in {FACTS_FILE}")
    locked = LockedVersion(
        released=_day(facts.started),
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
        data = files.read_file(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise RunError(f"{path}: is empty: restore it, or train again")
    return LockedFile.of(data)
