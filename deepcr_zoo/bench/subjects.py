"""Models to judge: names of the zoo, or folders of runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.hubmodels import PREFIX
from deepcr_zoo.zoo.names import Task, version_key
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import ResolvedModel
from deepcr_zoo.zoo.resolving import find_model
from deepcr_zoo.zoo.runfolders import is_run_folder


@dataclass(frozen=True)
class Subject:
    """A model to judge, and its network if that is loaded already."""

    origin: Run | ResolvedModel
    loaded: MaskModel | InpaintModel | None = field(default=None, compare=False, repr=False)

    @property
    def reference(self) -> str:
        """Return ``task/name@version``, or ``task/NAME@run-...``."""
        return self.origin.reference

    @property
    def task(self) -> Task:
        return self.card().identity.task

    @property
    def run(self) -> Run | None:
        """Return the run that it comes from; None for a model of the zoo."""
        return self.origin if isinstance(self.origin, Run) else None

    def card(self) -> Card:
        """Return its card, or the draft in its run."""
        return self.origin.card() if isinstance(self.origin, Run) else read_card(self.origin)

    def model(self, device: str = "auto", engine: str = "auto") -> MaskModel | InpaintModel:
        """Return its network, which is loaded unless it is on this device and engine already."""
        if (kept := self.loaded) and device in ("auto", str(kept.device)) and engine in ("auto", kept.engine):
            return kept
        if isinstance(self.origin, Run):
            return self.origin.model(device, engine)
        return load_resolved(self.origin, device, engine=engine)

    def load(self, device: str = "auto", engine: str = "auto") -> Subject:
        return replace(self, loaded=self.model(device, engine))

    def previous(self) -> Subject | None:
        """Return the version of the zoo that a run of this name follows: the default, else the newest before its own."""
        if self.run is None:
            return None
        identity, registry = self.card().identity, default_registry()
        entry = registry.entries.get(f"{identity.task}/{identity.name}")
        if entry is None:
            return None
        own = version_key(identity.version)
        before = [version for version in entry.versions if version_key(version) < own]
        if not before and identity.version in entry.versions:
            return None
        version = max(before, key=version_key) if before and entry.default not in before else entry.default
        return Subject(registry.resolve(f"{entry.reference}@{version}"))


def find_subject(given: str | os.PathLike[str]) -> Subject:
    """Return the run in a folder, or the model of this name."""
    is_run = is_run_folder(given) and not os.fspath(given).startswith(PREFIX)
    return Subject(Run.open(given) if is_run else find_model(given))


def all_of_the_zoo(task: Task) -> list[Subject]:
    """Return every version of every model for a task."""
    registry = default_registry()
    return [Subject(registry.resolve(one)) for one in registry.references() if one.startswith(f"{task}/")]
