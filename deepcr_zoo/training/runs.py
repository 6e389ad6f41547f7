"""Runs: a folder that holds everything that came out of a recipe, in order, each with the hashes of what went in.

``runs/NAME/TIMESTAMP-HASH/``: the hash is of the recipe and the training set, so equal hashes are equal runs.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from deepcr_zoo.bench.results import BenchmarkResults, read_results
from deepcr_zoo.cards import Card
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import MANIFEST_FILE, key_of
from deepcr_zoo.documents import Document, as_json, parse_document
from deepcr_zoo.errors import OutputError, RunError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.models import InpaintModel, MaskModel, load_files
from deepcr_zoo.recipe import Recipe
from deepcr_zoo.registry import WEIGHTS_FILE
from deepcr_zoo.training import checkpoints
from deepcr_zoo.training.environment import Environment
from deepcr_zoo.training.state import EpochRecord

RECIPE_FILE, FACTS_FILE, ENVIRONMENT_FILE, METRICS_FILE = "recipe.yaml", "run.json", "environment.json", "metrics.jsonl"
CARD_FILE, RESULTS_FILE = "card.yaml", "results.json"
LOSS_PICTURE, STAMPS_PICTURE = "loss.png", "stamps.png"

MOST_IN_A_SECOND = 1000

_ENVIRONMENTS = TypeAdapter(list[Environment])


class RunFacts(Document):
    """``run.json``: what a run was made of."""

    name: str
    task: str
    started: str = Field(description="UTC")
    command: str
    rehearsal: bool
    recipe_sha256: str
    dataset: str = Field(description="folder of the training set")
    manifest_sha256: str


@dataclass(frozen=True)
class Run:
    """A run of a recipe.

    Attributes
    ----------
    folder : Path
    recipe : Recipe
        As it was trained: with its settings, and in a rehearsal with the schedule of that.
    facts : RunFacts
    """

    folder: Path
    recipe: Recipe
    facts: RunFacts

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """A run from its folder.

        Raises
        ------
        RunError
            If it is none, or damaged, or its recipe was changed.
        """
        path = Path(folder)
        try:
            facts = RunFacts.model_validate_json((path / FACTS_FILE).read_bytes())
            text = (path / RECIPE_FILE).read_bytes()
        except (OSError, ValidationError):
            raise RunError(f"{path}: expected the folder of a run, which holds {FACTS_FILE} and {RECIPE_FILE}") from None
        if hashlib.sha256(text).hexdigest() != facts.recipe_sha256:
            raise RunError(f"{path / RECIPE_FILE}: was changed after the run had started: restore it, or start a new run")
        return cls(path, parse_document(text, Recipe, path / RECIPE_FILE), facts)

    @property
    def reference(self) -> str:
        """What its model is called before it is published: ``task/NAME@run-TIMESTAMP-HASH``."""
        return f"{self.facts.task}/{self.facts.name}@run-{self.folder.name}"

    @property
    def is_trained(self) -> bool:
        """Whether its model is there."""
        return (self.folder / CARD_FILE).is_file()

    @property
    def is_evaluated(self) -> bool:
        """Whether its results are there."""
        return (self.folder / RESULTS_FILE).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether its model is there and was evaluated."""
        return self.is_trained and self.is_evaluated

    def dataset(self, moved: Dataset | None = None) -> Dataset:
        """The training set, which may have moved.

        Raises
        ------
        DatasetError
            If it is missing or damaged.
        RunError
            If it is another than the one that the run was trained on.
        """
        dataset = moved or Dataset.open(Path(self.facts.dataset))
        if dataset.manifest_sha256 != self.facts.manifest_sha256:
            raise RunError(
                f"{dataset.folder / MANIFEST_FILE}: differs from the training set of {self.folder}: expected sha256 "
                f"{self.facts.manifest_sha256}: start a new run on the new one"
            )
        return dataset

    def history(self) -> list[EpochRecord]:
        """What is known of each epoch so far."""
        return checkpoints.read_progress(self.folder).history

    def card(self) -> Card:
        """The draft of its model's card.

        Raises
        ------
        RunError
            If it is not trained yet.
        """
        self._check_trained()
        return parse_document((self.folder / CARD_FILE).read_bytes(), Card, self.folder / CARD_FILE)

    def model(self, device: str = "auto", engine: str = "auto") -> MaskModel | InpaintModel:
        """Its model, as `deepcr_zoo.load` gives one.

        Raises
        ------
        RunError
            If it is not trained yet.
        InvalidWeightsError
            If its weights are damaged.
        DeviceError, UsageError, MissingExtraError
            As for `deepcr_zoo.load`.
        """
        card = self.card()
        weights = (self.folder / WEIGHTS_FILE).read_bytes()
        return load_files(weights, card, self.recipe.train.architecture, self.reference, device, engine=engine)

    def results(self) -> BenchmarkResults:
        """Its first evaluation.

        Raises
        ------
        InvalidDocumentError
            If there is none, or it is damaged.
        """
        return read_results(self.folder / RESULTS_FILE)

    def _check_trained(self) -> None:
        if not self.is_trained:
            raise RunError(f"{self.folder}: has no model yet: deepcr-zoo train --resume {self.folder} finishes it")


def new_run(recipe: Recipe, dataset: Dataset, runs: Path, command: str) -> Run:
    """Start a run's folder.

    Parameters
    ----------
    recipe : Recipe
        As it is to be trained.
    dataset : Dataset
    runs : Path
        Folder of all runs.
    command : str

    Raises
    ------
    OutputError
        If it cannot be written.
    """
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
    )
    key = key_of({"recipe": facts.recipe_sha256, "manifest": facts.manifest_sha256})[:8]
    try:
        folder = _make_folder(runs / recipe.name, f"{now:%Y%m%dT%H%M%S}", key)
        write_atomically(text, folder / RECIPE_FILE)
        write_atomically(as_json(facts), folder / FACTS_FILE)
    except OSError as error:
        raise OutputError(
            f"{runs}: a run cannot be written there: {error.strerror}; name another folder with --runs"
        ) from None
    return Run(folder, recipe, facts)


def write_metrics(run: Run, history: list[EpochRecord]) -> None:
    """Write ``metrics.jsonl``: a line per epoch.

    Raises
    ------
    OutputError
    """
    lines = "".join(record.model_dump_json() + "\n" for record in history)
    with checkpoints.failure_is_told(run.folder):
        write_atomically(lines.encode(), run.folder / METRICS_FILE)


def add_environment(run: Run, environment: Environment) -> None:
    """Add to ``environment.json`` where a run is trained, unless it is where it was trained before.

    Raises
    ------
    OutputError
        If it cannot be written.
    RunError
        If what is there is damaged.
    """
    path = run.folder / ENVIRONMENT_FILE
    try:
        known = _ENVIRONMENTS.validate_json(path.read_bytes()) if path.is_file() else []
    except ValidationError:
        raise RunError(f"{path}: cannot be read: restore it, or remove it") from None
    if known[-1:] != [environment]:
        with checkpoints.failure_is_told(run.folder):
            write_atomically(_ENVIRONMENTS.dump_json([*known, environment], indent=1) + b"\n", path)


def _make_folder(parent: Path, timestamp: str, key: str) -> Path:
    """A new folder; runs that start in the same second get numbers."""
    for number in range(1, MOST_IN_A_SECOND):
        folder = parent / (f"{timestamp}-{key}" if number == 1 else f"{timestamp}-{number}-{key}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(parent)
