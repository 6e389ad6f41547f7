"""Checkpoints: everything that training needs to go on exactly where it was, as safetensors and JSON.

The tensors go into a file of their own, then ``checkpoint.json`` is renamed into place, which names that file and its hash:
whatever happens in between, there is one whole checkpoint, the old one or the new one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from deepcr_zoo.documents import Document, as_json
from deepcr_zoo.errors import OutputError, RunError
from deepcr_zoo.files import sweep_leftovers, write_atomically
from deepcr_zoo.training.state import Progress, Training

CHECKPOINT_FILE = "checkpoint.json"

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter."""


class Checkpoint(Document):
    """``checkpoint.json``."""

    tensors: str = Field(description="file with weights, best weights and the state of the optimiser")
    sha256: str
    recipe_sha256: str = Field(description="hash of the recipe that is trained")
    learning_rate: float
    plateau_best: float | None = Field(
        description="lowest validation loss that the schedule has seen; none before the first"
    )
    plateau_bad_epochs: int
    progress: Progress = Field(
        description="with the place in the random numbers, which depend on seed, epoch and stamp alone"
    )


def save(training: Training, folder: Path, recipe_sha256: str) -> None:
    """Write a checkpoint in the place of the one before.

    Raises
    ------
    OutputError
        If it cannot be written; the one before is untouched.
    """
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in _tensors(training).items()})
    progress = training.progress
    name = f"checkpoint-{progress.epoch:04d}-{progress.step:06d}.safetensors"
    checkpoint = Checkpoint(
        tensors=name,
        sha256=hashlib.sha256(data).hexdigest(),
        recipe_sha256=recipe_sha256,
        learning_rate=training.learning_rate,
        plateau_best=training.plateau.best if math.isfinite(training.plateau.best) else None,
        plateau_bad_epochs=training.plateau.num_bad_epochs,
        progress=progress,
    )
    with failure_is_told(folder):
        write_atomically(data, folder / name)
        write_atomically(as_json(checkpoint), folder / CHECKPOINT_FILE)
        _remove_others(folder, name)


@contextmanager
def failure_is_told(folder: Path) -> Iterator[None]:
    """Around what is written into a run.

    Raises
    ------
    OutputError
        If it could not be written.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written: {error.strerror}; what was there is intact, the last checkpoint too: make "
            f"room, then deepcr-zoo train --resume {folder} goes on"
        ) from None


def is_there(folder: Path) -> bool:
    """Whether a folder has a checkpoint."""
    return (folder / CHECKPOINT_FILE).is_file()


def restore(training: Training, folder: Path, recipe_sha256: str) -> None:
    """Put a newly made `Training` of the same recipe into the state of a checkpoint.

    Raises
    ------
    RunError
        If the checkpoint is damaged, or of another recipe or architecture.
    """
    path = folder / CHECKPOINT_FILE
    try:
        checkpoint = Checkpoint.model_validate_json(path.read_bytes())
        data = (folder / checkpoint.tensors).read_bytes()
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be read: {error.strerror}; train again without --resume") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; train again without --resume") from None
    if checkpoint.recipe_sha256 != recipe_sha256:
        raise RunError(f"{path}: is of another recipe than {folder / 'recipe.yaml'}: expected the recipe that was trained")
    if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
        raise RunError(f"{folder / checkpoint.tensors}: differs from its hash in {path.name}; train again without --resume")
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise RunError(f"{folder / checkpoint.tensors}: expected a safetensors file: {error}") from None
    sweep_leftovers(folder)
    _remove_others(folder, checkpoint.tensors)
    mixed = training.progress.mixed and checkpoint.progress.mixed  # the device may be another one
    training.progress = checkpoint.progress.model_copy(update={"mixed": mixed})
    training.start_optimiser(checkpoint.learning_rate)
    training.plateau.best = math.inf if checkpoint.plateau_best is None else checkpoint.plateau_best
    training.plateau.num_bad_epochs = checkpoint.plateau_bad_epochs
    _load_tensors(training, tensors, folder / checkpoint.tensors)


def _tensors(training: Training) -> dict[str, Tensor]:
    """All tensors of a state, by names that tell what they are."""
    tensors = {f"network/{name}": tensor for name, tensor in training.network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in training.best.items()}
    for name, parameter in training.network.named_parameters():
        state = training.optimiser.state.get(parameter, {})
        tensors |= {f"{moment}/{name}": state[moment] for moment in MOMENTS if moment in state}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _load_tensors(training: Training, tensors: dict[str, Tensor], where: Path) -> None:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("network", "best", *MOMENTS)}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    expected = {name: tensor.shape for name, tensor in training.network.state_dict().items()}
    for name in ("network", *(["best"] if parts["best"] else [])):
        if {key: tensor.shape for key, tensor in parts[name].items()} != expected:
            raise RunError(f"{where}: holds a network of another architecture than the recipe's {training.architecture}")
    training.network.load_state_dict(parts["network"])
    for name, parameter in training.network.named_parameters():
        if name in parts["exp_avg"]:
            device = {"step": torch.device("cpu")}  # where Adam keeps it
            training.optimiser.state[parameter] = {
                moment: parts[moment][name].to(device.get(moment, parameter.device)) for moment in MOMENTS
            }
    training.best = {name: tensor.to(training.device) for name, tensor in parts["best"].items()}


def _remove_others(folder: Path, keep: str) -> None:
    for path in folder.glob("checkpoint-*.safetensors"):
        if path.name != keep:
            path.unlink(missing_ok=True)


def read_progress(folder: Path) -> Progress:
    """How far the checkpoint of a folder has come; from the start, if there is none.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    if not is_there(folder):
        return Progress()
    path = folder / CHECKPOINT_FILE
    try:
        return Checkpoint.model_validate_json(path.read_bytes()).progress
    except (OSError, ValidationError):
        raise RunError(f"{path}: cannot be read, or is damaged; train again without --resume") from None
