"""The folder of a run, ``runs/NAME/TIMESTAMP-HASH/``, and its files.

The hash is of the recipe and the training set: equal hashes are equal runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deepcr_zoo import documents
from deepcr_zoo.bench.results import RESULTS_FILE, BenchmarkResults, ModelMethod, read_results
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import MANIFEST_FILE
from deepcr_zoo.documents import Document, parse_document
from deepcr_zoo.errors import RunError, command
from deepcr_zoo.files import read_file, refuse_links, sha256_of
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_files
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE
from deepcr_zoo.zoo.runfolders import RunFacts, read_run, run_name

METRICS_FILE = "metrics.jsonl"


class EpochRecord(Document):
    """A line of ``metrics.jsonl``."""

    epoch: int
    frozen: bool
    learning_rate: float
    train_loss: float
    validation_loss: float
    is_best: bool
    precision: str
    seconds: float
    stamps_per_second: float


@dataclass(frozen=True)
class Run:
    """A run of a recipe.

    Attributes
    ----------
    folder : Path
    recipe : Recipe
        As it was trained: with its settings, and in a rehearsal with the schedule of the rehearsal.
    facts : RunFacts
        What it was made from (``run.json``).
    """

    folder: Path
    recipe: Recipe
    facts: RunFacts

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open a run.

        Parameters
        ----------
        folder : path-like

        Returns
        -------
        Run

        Raises
        ------
        RunError
            If the folder holds no run, or the run is damaged, or its recipe was changed.
        """
        path = Path(folder)
        return cls(path, *read_run(path))

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from deepcr_zoo.bench.report.notebook import run_html  # draws, and reads this module

        return run_html(self)

    @property
    def reference(self) -> str:
        """Name of its model before it is published: ``task/NAME@run-TIMESTAMP-HASH``."""
        return f"{self.facts.task}/{self.facts.name}@{run_name(self.folder)}"

    @property
    def is_trained(self) -> bool:
        """True if its model exists."""
        return (self.folder / CARD_FILE).is_file()

    @property
    def is_evaluated(self) -> bool:
        """True if its results exist."""
        return (self.folder / RESULTS_FILE).is_file()

    @property
    def is_finished(self) -> bool:
        """True if its model exists, whole, and was evaluated."""
        if not all((self.folder / name).is_file() for name in (CARD_FILE, WEIGHTS_FILE, TEST_VECTOR_FILE, RESULTS_FILE)):
            return False
        methods = [one.method for one in self.results().methods]
        judged = {method.sha256 for method in methods if isinstance(method, ModelMethod)}
        return sha256_of(self.folder / WEIGHTS_FILE) in judged

    def dataset(self, moved: Dataset | None = None) -> Dataset:
        """Open its training set.

        Parameters
        ----------
        moved : Dataset, optional
            The training set, if it has moved.

        Returns
        -------
        Dataset

        Raises
        ------
        DatasetError
            If it is missing or damaged.
        RunError
            If it is not the one that the run was trained on.
        """
        dataset = moved or Dataset.open(Path(self.facts.dataset))
        if dataset.manifest_sha256 != self.facts.manifest_sha256:
            raise RunError(
                f"{dataset.folder / MANIFEST_FILE}: differs from the training set of {self.folder}: expected sha256 "
                f"{self.facts.manifest_sha256}: start a new run on the new one"
            )
        return dataset

    def history(self) -> list[EpochRecord]:
        """Return the figures of all finished epochs.

        Returns
        -------
        list of EpochRecord

        Raises
        ------
        RunError
            If ``metrics.jsonl`` is damaged.
        """
        path = self._file(METRICS_FILE)
        try:
            lines = documents.json_bytes(path).decode().splitlines() if path.is_file() else []
            return [EpochRecord.model_validate_json(line) for line in lines]
        except (OSError, ValueError):
            raise RunError(f"{path}: cannot be read, or is damaged; train again without --resume") from None

    def card(self) -> Card:
        """Read the draft of its model's card.

        Returns
        -------
        Card

        Raises
        ------
        RunError
            If it is not trained yet.
        """
        if not self.is_trained:
            raise RunError(f"{self.folder}: has no model yet: {command('train', '--resume', self.folder)} finishes it")
        path = self._file(CARD_FILE)
        return parse_document(documents.document_bytes(path, path), Card, path)

    def model(self, device: str = "auto", engine: str = "auto") -> MaskModel | InpaintModel:
        """Load its model, as `deepcr_zoo.load` does.

        Parameters
        ----------
        device, engine : str
            As for `deepcr_zoo.load`.

        Returns
        -------
        MaskModel or InpaintModel

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
        try:
            weights = read_file(self._file(WEIGHTS_FILE))
        except OSError as error:
            raise RunError(f"{self.folder / WEIGHTS_FILE}: cannot be read: {error.strerror}") from None
        return load_files(weights, card, self.recipe.train.architecture, self.reference, device, engine=engine)

    def results(self) -> BenchmarkResults:
        """Read its last evaluation.

        Returns
        -------
        BenchmarkResults

        Raises
        ------
        InvalidDocumentError
            If there is none, or it is damaged.
        """
        return read_results(self._file(RESULTS_FILE))

    def _file(self, name: str) -> Path:
        """Return one of its files; `IntegrityError` if it is a link, which in a run of others leads to files of the user."""
        refuse_links(self.folder / name, self.folder)
        return self.folder / name
