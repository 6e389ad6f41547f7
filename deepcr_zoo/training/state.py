"""State of a training: everything that changes while a network learns, and how it starts and moves from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.machine import multiplies_bfloat16
from deepcr_zoo.models import weights
from deepcr_zoo.models.nets import UNet, network_of
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.recipe import Recipe, ScheduleBlock
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, Architecture, ResolvedModel

Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TrainingProgress(BaseModel):
    """Progress of a training, as ``checkpoint.json`` keeps it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    epoch: Count = 0  # finished epochs
    step: Count = 0  # finished batches of the next epoch; the three sums below are over these batches
    loss_sum: float = 0.0
    pixels: NotNegative = 0.0  # pixels that counted in the loss
    seconds: NotNegative = 0.0
    frozen: bool = False
    decays: Count = 0  # decays of the learning rate since the last improvement of the validation loss
    best_loss: float | None = None
    best_epoch: Count = 0
    mixed: bool = False  # true if convolutions run in bfloat16
    history: list[EpochRecord] = []

    @model_validator(mode="after")
    def _is_of_one_training(self) -> TrainingProgress:
        if [record.epoch for record in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"expected a history of {self.epoch} epochs")
        has_best = self.epoch > 0  # the first is the best so far
        if self.best_epoch > self.epoch or not has_best == (self.best_epoch > 0) == (self.best_loss is not None):
            raise ValueError(f"expected the best epoch among {self.epoch}, got {self.best_epoch}")
        return self


class TrainingState:
    """A network that learns, changed in place, with its optimiser, its schedule and its best weights so far."""

    def __init__(self, recipe: Recipe, network: UNet, frozen: bool = False, mixed: bool = False) -> None:
        self.recipe = recipe
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        frozen = frozen or recipe.train.architecture.norm == "none"  # then there is no first phase
        self.progress = TrainingProgress(frozen=frozen, mixed=mixed)
        self.best: dict[str, Tensor] = {}
        self.start_optimiser(self.schedule.learning_rate)

    @property
    def schedule(self) -> ScheduleBlock:
        return self.recipe.train.schedule

    @property
    def architecture(self) -> Architecture:
        return self.recipe.train.architecture

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.head.weight.device)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    @property
    def is_finished(self) -> bool:
        """True after the last epoch, or when the last decays of the learning rate have brought nothing."""
        tried = self.progress.frozen and self.progress.decays > self.schedule.stop_after_decays
        return self.progress.step == 0 and (tried or self.progress.epoch >= self.schedule.max_epochs)

    @property
    def freezes_now(self) -> bool:
        """True if the next epoch is the first of the second phase."""
        return not self.progress.frozen and self.progress.epoch >= self.schedule.freeze_after_epochs

    def start_optimiser(self, learning_rate: float) -> None:
        """Start a new Adam, and a new schedule of its learning rate."""
        self.optimiser = Adam(self.network.parameters(), lr=learning_rate)
        self.plateau = ReduceLROnPlateau(
            self.optimiser,
            factor=self.schedule.decay_factor,
            patience=self.schedule.decay_patience_epochs,
            threshold=self.schedule.decay_min_improvement,
            threshold_mode="rel",
        )

    def anneal(self, steps: int) -> None:
        """Set the learning rate of the next step along a half cosine over all epochs, each of so many steps."""
        if self.schedule.decay == "cosine":
            done = (self.progress.epoch + self.progress.step / steps) / self.schedule.max_epochs
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def freeze(self) -> None:
        """Begin the second phase."""
        self.progress.frozen = True
        self.progress.decays = 0  # those of the first phase do not end the second
        if self.schedule.restart_at_freeze:
            self.start_optimiser(self.schedule.learning_rate * self.schedule.restart_learning_rate_factor)

    def end_epoch(self, validation_loss: float, stamps: int) -> EpochRecord:
        """Update the learning rate and the best weights with an epoch's validation loss, and return its record."""
        progress, rate, best = self.progress, self.learning_rate, self.plateau.best
        if self.schedule.decay == "plateau":
            self.plateau.step(validation_loss)
        if self.plateau.best < best:
            progress.decays = 0
        elif self.learning_rate < rate:
            progress.decays += 1
        is_best = validation_loss < (math.inf if progress.best_loss is None else progress.best_loss)
        progress.epoch += 1
        if is_best:
            progress.best_loss, progress.best_epoch = validation_loss, progress.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        record = EpochRecord(
            epoch=progress.epoch,
            frozen=progress.frozen,
            learning_rate=rate,
            train_loss=progress.loss_sum / max(progress.pixels, 1),
            validation_loss=validation_loss,
            is_best=is_best,
            precision="bfloat16" if progress.mixed else "float32",
            seconds=progress.seconds,
            stamps_per_second=stamps / max(progress.seconds, 1e-9),
        )
        progress.history.append(record)
        progress.step, progress.loss_sum, progress.pixels, progress.seconds = 0, 0.0, 0.0, 0.0
        return record


def decays(history: Sequence[EpochRecord]) -> list[EpochRecord]:
    """Return the epochs with a lower learning rate than the one before them in the same phase."""
    pairs = [(before, after) for before, after in pairwise(history) if after.frozen == before.frozen]
    return [after for before, after in pairs if after.learning_rate < before.learning_rate]


def initial_state(recipe: Recipe, device: torch.device) -> TrainingState:
    """Return a network before its first step; the same recipe gives the same weights.

    `TrainingError` if ``train.init_from`` names a model that does not fit the recipe, or the input is not in electrons.
    """
    train = recipe.train
    if train.input.unit == "adu":
        raise TrainingError(f"train.input.unit: expected electron, which stamps are in, got {train.input.unit}")
    network = _random_network(recipe) if train.init_from is None else _first_network(recipe, train.init_from)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = train.schedule.batchnorm_momentum
    is_quicker = device.type == "cuda" or (device.type == "cpu" and multiplies_bfloat16())
    mixed = train.precision == "bfloat16" or (train.precision == "auto" and is_quicker)
    return TrainingState(recipe, network.to(device), frozen=train.init_from is not None and train.start_frozen, mixed=mixed)


def _random_network(recipe: Recipe) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.train.seed)  # torch.manual_seed changes CUDA's numbers too
        return UNet(recipe.train.architecture, recipe.task)


def teacher_of(recipe: Recipe, device: torch.device) -> UNet | None:
    """Return the network that a recipe names as teacher, ready to run; `TrainingError` if its input is another."""
    name = recipe.train.teacher
    if name is None:
        return None
    model, card, data = _of_zoo("teacher", name, recipe)
    return network_of(weights.plain_network(data, model.locked.architecture, card, model.reference)).to(device)


def _first_network(recipe: Recipe, name: str) -> UNet:
    model, card, data = _of_zoo("init_from", name, recipe)
    network = weights.trained_network(data, model.locked.architecture, recipe.task, model.reference)
    weights.check_fingerprint(network.state_dict(), card, model.reference)
    return network


def _of_zoo(use: Literal["init_from", "teacher"], name: str, recipe: Recipe) -> tuple[ResolvedModel, Card, bytes]:
    """Return a model that a recipe names, its card and its weights file, which is fetched only if the model fits."""
    model = default_registry().resolve(for_task(name, recipe.task))
    card = read_card(model)
    train, found = recipe.train, card.input
    # a teacher may be of any size
    sizes = [("architecture", str(train.architecture), str(model.locked.architecture))] if use == "init_from" else []
    pairs = [
        *sizes,
        ("input.unit", train.input.unit, found.unit),
        ("input.scale", f"{train.input.scale:g}", f"{found.scale:g}"),
        ("input, normalisation", train.input.normalisation, found.normalisation),
    ]
    for field, ours, theirs in pairs:
        if ours != theirs:
            raise TrainingError(
                f"train.{use}: {model.reference} has {field} {theirs}: expected {ours}, as the recipe's train block says"
            )
    return model, card, sources.fetch(model, WEIGHTS_FILE).data
