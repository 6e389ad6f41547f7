"""How training starts: with new weights, or with those of a model of the zoo."""

from __future__ import annotations

import torch
from torch import nn

from deepcr_zoo import sources, weights
from deepcr_zoo.cards import Card, read_card
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.names import for_task
from deepcr_zoo.nets import UNet
from deepcr_zoo.recipe import Recipe
from deepcr_zoo.registries import default_registry
from deepcr_zoo.registry import WEIGHTS_FILE, Architecture
from deepcr_zoo.training.state import Training


def start(recipe: Recipe, device: torch.device) -> Training:
    """A network before its first step; the same recipe gives the same weights.

    Parameters
    ----------
    recipe : Recipe
    device : torch.device

    Raises
    ------
    TrainingError
        If ``train.init_from`` names a model that does not fit the recipe, or its input is not in electrons.
    InvalidNameError, UnknownModelError, SourceError, IntegrityError, InvalidWeightsError
        If that model is not to be had.
    """
    train = recipe.train
    if train.input.unit != "electron":
        raise TrainingError(f"train.input.unit: expected electron, which stamps are in, got {train.input.unit}")
    network = _new_network(recipe) if train.init_from is None else _from_zoo(recipe, train.init_from)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = train.schedule.batchnorm_momentum
    mixed = train.precision == "bfloat16" or (train.precision == "auto" and device.type == "cuda")
    return Training(recipe, network.to(device), frozen=train.init_from is not None and train.start_frozen, mixed=mixed)


def _new_network(recipe: Recipe) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        return UNet(recipe.train.architecture, recipe.task)


def _from_zoo(recipe: Recipe, name: str) -> UNet:
    """The network of a model of the zoo, as it was trained."""
    model = default_registry().resolve(for_task(name, recipe.task))
    card = read_card(model)
    _check_fits(recipe, model.reference, model.locked.architecture, card)
    data = sources.fetch(model, WEIGHTS_FILE).data
    network = weights.trained_network(data, model.locked.architecture, recipe.task, model.reference)
    weights.check_fingerprint(network.state_dict(), card, model.reference)
    return network


def _check_fits(recipe: Recipe, reference: str, architecture: Architecture, card: Card) -> None:
    train, found = recipe.train, card.input
    pairs = [
        ("architecture", str(train.architecture), str(architecture)),
        ("input.unit", train.input.unit, found.unit),
        ("input.scale", f"{train.input.scale:g}", f"{found.scale:g}"),
        ("input, normalisation", "scale", found.normalisation),
    ]
    for field, ours, theirs in pairs:
        if ours != theirs:
            raise TrainingError(
                f"train.init_from: {reference} has {field} {theirs}: expected {ours}, as the recipe's train block says"
            )
