"""Models that are judged: a name of the zoo, or the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.names import Task, version_key
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import ResolvedModel


@dataclass(frozen=True)
class Subject:
    """A model that is judged.

    Attributes
    ----------
    origin : Run or ResolvedModel
    """

    origin: Run | ResolvedModel

    @property
    def reference(self) -> str:
        """``task/name@version``, or ``task/NAME@run-...``."""
        return self.origin.reference

    @property
    def task(self) -> Task:
        """What it does."""
        return self.card().identity.task

    @property
    def run(self) -> Run | None:
        """The run that it comes from, if it is none of the zoo."""
        return self.origin if isinstance(self.origin, Run) else None

    def card(self) -> Card:
        """Its card, or the draft of it.

        Raises
        ------
        RunError
            If a run is not trained yet.
        """
        return self.origin.card() if isinstance(self.origin, Run) else read_card(self.origin)

    def model(self, device: str = "auto", engine: str = "auto") -> MaskModel | InpaintModel:
        """Load it.

        Raises
        ------
        DeepcrZooError
            As `deepcr_zoo.load`, or `Run.model`.
        """
        if isinstance(self.origin, Run):
            return self.origin.model(device, engine)
        return load_resolved(self.origin, device, engine=engine)

    def previous(self) -> Subject | None:
        """The version of the zoo that a run of this name follows, if any: the default, else the newest before its own."""
        if self.run is None:
            return None
        identity, registry = self.card().identity, default_registry()
        entry = registry.entries.get(f"{identity.task}/{identity.name}")
        own = version_key(identity.version)
        before = [version for version in (entry.versions if entry else ()) if version_key(version) < own]
        if entry is None or (not before and identity.version in entry.versions):
            return None
        if not before:  # it would be older than all that there is
            return Subject(registry.resolve(f"{entry.reference}@{entry.default}"))
        version = entry.default if entry.default in before else max(before, key=version_key)
        return Subject(registry.resolve(f"{entry.reference}@{version}"))


def find_subject(given: str | os.PathLike[str]) -> Subject:
    """What a user has named.

    Raises
    ------
    RunError
        If it is the folder of a damaged run.
    InvalidNameError, UnknownModelError
        If it is neither a run nor a name of the zoo.
    """
    if Path(given).is_dir():
        return Subject(Run.open(given))
    return Subject(default_registry().resolve(os.fspath(given)))


def all_of_the_zoo(task: Task) -> Sequence[Subject]:
    """Every version of every model for a task."""
    registry = default_registry()
    return [Subject(registry.resolve(one)) for one in registry.references() if one.startswith(f"{task}/")]
