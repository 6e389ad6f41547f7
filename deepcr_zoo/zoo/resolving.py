"""From what a user writes for a model to the model: a name, the folder of a finished run, or a repository on the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from deepcr_zoo.errors import InvalidNameError
from deepcr_zoo.zoo.hubmodels import PREFIX, hub_model
from deepcr_zoo.zoo.names import Task, for_task
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Registry, ResolvedModel
from deepcr_zoo.zoo.runfolders import is_run_folder, run_model


def find_model(given: str | os.PathLike[str], task: Task | None = None, registry: Registry | None = None) -> ResolvedModel:
    """Return the model of a name (one without a task gets `task`), of a run's folder, or of ``hf:ORG/TASK-NAME@vVERSION``.

    Names are those of `registry` (default: the zoo's own). The first use of a repository on the Hub asks it for its card.
    """
    if not isinstance(given, str | os.PathLike):
        raise InvalidNameError(f"the model is {type(given).__name__}: expected its name, or the folder of a run")
    text = os.fspath(given)
    if text.startswith(PREFIX):
        return hub_model(text)
    if is_run_folder(given):
        return run_model(Path(text))
    return (registry or default_registry()).resolve(text if task is None else for_task(text, task))
