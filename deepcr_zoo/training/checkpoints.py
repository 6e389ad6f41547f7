"""Checkpoints: everything that a training needs to go on exactly where it was, as safetensors and JSON.

The tensors go into a file of their own. Then ``checkpoint.json``, which names that file and its hash, is renamed into
place: at any moment there is one whole checkpoint, the old one or the new one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from deepcr_zoo.documents import Document, as_json, first_problem, json_bytes
from deepcr_zoo.errors import InvalidWeightsError, OutputError, RunError, command
from deepcr_zoo.files import FULL, read_file, sha256_of, sweep_leftovers, write_atomically
from deepcr_zoo.models import weights
from deepcr_zoo.models.weights import TensorFacts
from deepcr_zoo.training.state import TrainingProgress, TrainingState
from deepcr_zoo.zoo.recipe import Positive
from deepcr_zoo.zoo.registry import Sha256

CHECKPOINT_FILE = "checkpoint.json"
_CHECKPOINT = r"checkpoint-\d{4,}-\d{6,}\.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # state of Adam for each parameter
PARTS = ("network", "best", *MOMENTS)
NOT_NEGATIVE = ("step", "exp_avg_sq")
_ADVICE = "; train again without --resume"
_Parts = dict[str, dict[str, Tensor]]
"""Tensors by part, and by their name in the network."""


class Checkpoint(Document):
    """``checkpoint.json``."""

    tensors: str = Field(
        pattern=f"^{_CHECKPOINT}$",
        description="file with weights, best weights and the state of the optimiser",
    )
    sha256: Sha256
    recipe_sha256: str = Field(description="hash of the recipe that is trained")
    learning_rate: Positive
    plateau_best: float | None = Field(description="lowest validation loss seen by the schedule; none before the first")
    plateau_bad_epochs: int = Field(ge=0)
    progress: TrainingProgress = Field(description="random numbers need no state: they depend on seed, epoch and stamp")


def save(state: TrainingState, folder: Path, recipe_sha256: str) -> None:
    """Write a checkpoint in place of the one before, which stays if this one cannot be written."""
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in _tensors(state).items()})
    progress = state.progress
    name = f"checkpoint-{progress.epoch:04d}-{progress.step:06d}.safetensors"
    checkpoint = Checkpoint(
        tensors=name,
        sha256=hashlib.sha256(data).hexdigest(),
        recipe_sha256=recipe_sha256,
        learning_rate=state.learning_rate,
        plateau_best=state.plateau.best if math.isfinite(state.plateau.best) else None,
        plateau_bad_epochs=state.plateau.num_bad_epochs,
        progress=progress,
    )
    with reporting_run_failures(folder):
        write_atomically(data, folder / name)
        write_atomically(as_json(checkpoint), folder / CHECKPOINT_FILE)
        _remove_others(folder, name)


@contextmanager
def reporting_run_failures(folder: Path) -> Iterator[None]:
    """Turn an OSError while a run is written into an OutputError."""
    try:
        yield
    except OSError as error:
        remedy = "make room" if error.errno in FULL else "make it writable"
        raise OutputError(
            f"{folder}: cannot be written: {error.strerror}; {condition(folder)}: {remedy}, then "
            f"{command('train', '--resume', folder)} {'goes on' if has_checkpoint(folder) else 'starts it again'}"
        ) from None


def has_checkpoint(folder: Path) -> bool:
    return (folder / CHECKPOINT_FILE).is_file()


def condition(folder: Path) -> str:
    """Return in words whether a run has a checkpoint, and whether its files are as they were written."""
    if not has_checkpoint(folder):
        return "there is no checkpoint yet"
    try:
        checkpoint = Checkpoint.model_validate_json(json_bytes(folder / CHECKPOINT_FILE))
        is_intact = sha256_of(folder / checkpoint.tensors) == checkpoint.sha256
    except (OSError, ValidationError):
        is_intact = False
    return "the last checkpoint is intact" if is_intact else "the last checkpoint is damaged"


def restore(state: TrainingState, folder: Path, recipe_sha256: str) -> None:
    """Put a new state of the same recipe into that of a checkpoint; RunError if that is damaged or does not fit."""
    path = folder / CHECKPOINT_FILE
    try:
        checkpoint = Checkpoint.model_validate_json(json_bytes(path))
        data = read_file(folder / checkpoint.tensors)
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be read: {error.strerror}{_ADVICE}") from None
    except ValidationError as error:
        raise RunError(f"{path}: {first_problem(error)}{_ADVICE}") from None
    if checkpoint.recipe_sha256 != recipe_sha256:
        raise RunError(f"{path}: is of another recipe than {folder / 'recipe.yaml'}: expected the recipe that was trained")
    if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
        raise RunError(f"{folder / checkpoint.tensors}: differs from its hash in {path.name}{_ADVICE}")
    _check_schedule(state, checkpoint, path)
    tensors = _read_tensors(state, data, has_best=checkpoint.progress.best_epoch > 0, where=folder / checkpoint.tensors)
    sweep_leftovers(folder)
    _remove_others(folder, checkpoint.tensors)
    mixed = state.progress.mixed and checkpoint.progress.mixed  # the device may be another one
    state.progress = checkpoint.progress.model_copy(update={"mixed": mixed})
    state.start_optimiser(checkpoint.learning_rate)
    state.plateau.best = math.inf if checkpoint.plateau_best is None else checkpoint.plateau_best
    state.plateau.num_bad_epochs = checkpoint.plateau_bad_epochs
    _load_tensors(state, tensors)


def _check_schedule(state: TrainingState, checkpoint: Checkpoint, where: Path) -> None:
    """Refuse a learning rate or an epoch that the recipe's schedule never comes to."""
    schedule = state.schedule
    highest = schedule.learning_rate * max(1, schedule.restart_learning_rate_factor)
    if checkpoint.learning_rate > highest:
        raise RunError(f"{where}: learning_rate: expected {highest:g} at most, got {checkpoint.learning_rate:g}{_ADVICE}")
    if checkpoint.progress.epoch > schedule.max_epochs:
        raise RunError(
            f"{where}: progress.epoch: expected {schedule.max_epochs} at most, got {checkpoint.progress.epoch}{_ADVICE}"
        )


def _read_tensors(state: TrainingState, data: bytes, has_best: bool, where: Path) -> _Parts:
    """Return the tensors of a checkpoint, by part; RunError unless they are those of such a state, finite and in range."""
    try:
        found = weights.read_header(data, str(where))
        weights.check_tensors(found, _expected(state, found, has_best), str(where), f"a training of {state.architecture}")
        tensors = safetensors.torch.load(data)
    except (InvalidWeightsError, SafetensorError) as error:
        raise RunError(f"{error}{_ADVICE}") from None
    parts: _Parts = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        if not torch.isfinite(tensor).all():
            raise RunError(f"{where}: {name}: expected finite numbers{_ADVICE}")
        if (part in NOT_NEGATIVE or weights.is_variance(key)) and bool((tensor < 0).any()):
            raise RunError(f"{where}: {name}: expected numbers of 0 or more{_ADVICE}")
        parts[part][key] = tensor
    return parts


def _expected(state: TrainingState, found: Mapping[str, TensorFacts], has_best: bool) -> dict[str, TensorFacts]:
    """Return type and shape of each tensor; a parameter has all moments of Adam or, as before its first step, none."""
    network = weights.facts_of(state.network.state_dict())
    expected = {
        f"{part}/{name}": facts for part in ("network", *(["best"] if has_best else [])) for name, facts in network.items()
    }
    for name, _ in state.network.named_parameters():
        if any(f"{moment}/{name}" in found for moment in MOMENTS):
            expected |= {f"{moment}/{name}": network[name] for moment in MOMENTS} | {f"step/{name}": TensorFacts("F32", ())}
    return expected


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """Return all tensors of a state, named ``network/...``, ``best/...`` and by the moments of Adam."""
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for name, parameter in state.network.named_parameters():
        moments = state.optimiser.state.get(parameter, {})
        tensors |= {f"{moment}/{name}": moments[moment] for moment in MOMENTS if moment in moments}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _load_tensors(state: TrainingState, parts: _Parts) -> None:
    state.network.load_state_dict(parts["network"])
    for name, parameter in state.network.named_parameters():
        if name in parts["exp_avg"]:
            device = {"step": torch.device("cpu")}  # where Adam keeps it
            state.optimiser.state[parameter] = {
                moment: parts[moment][name].to(device.get(moment, parameter.device)) for moment in MOMENTS
            }
    state.best = {name: tensor.to(state.device) for name, tensor in parts["best"].items()}


def _remove_others(folder: Path, keep: str) -> None:
    for path in folder.iterdir():
        if path.name != keep and re.fullmatch(_CHECKPOINT, path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
