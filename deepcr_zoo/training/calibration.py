"""A predicted uncertainty is stretched until it holds the share of validation pixels that a standard deviation holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.networkinput import johnson_deviation
from deepcr_zoo.models.weights import serialise, trained_network
from deepcr_zoo.training.objectives import NATIVE, Feed
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.zoo.recipe import Recipe

WITHIN_ONE = 0.6827
"""Of Gaussian errors, erf(1 / sqrt(2))."""

LARGEST_STEP = 3.0
"""Of log(sigma): a factor of 20 either way, beyond which a network has predicted nothing."""

HALVINGS = 20  # of the step: to 1e-5 of the uncertainty
HEAD_BIAS = "head.bias"

Pixels = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def calibrated(weights: dict[str, Tensor], recipe: Recipe, dataset: Dataset, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of an inpainting network whose log(sigma) has another bias; nothing else changes.

    The Gaussian likelihood follows the largest errors, so that most are well within the sigma that it asks for. With the new
    bias, 68.3 % of the masked validation pixels have an error below the uncertainty of their values.
    """
    true, values, logarithms = (
        np.concatenate(one) for one in zip(*masked_pixels(weights, recipe, dataset, device), strict=True)
    )
    error = np.abs(np.sinh(true) - np.sinh(values))  # in units of the noise
    low, high = -LARGEST_STEP, LARGEST_STEP
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_enough = np.mean(error < johnson_deviation(values, logarithms + np.float32(middle))) > WITHIN_ONE
        low, high = (low, middle) if is_enough else (middle, high)
    bias = weights[HEAD_BIAS].clone()
    bias[len(bias) // 2 :] += high  # the second output, of each pixel of a block
    return {**weights, HEAD_BIAS: bias}


def masked_pixels(weights: dict[str, Tensor], recipe: Recipe, dataset: Dataset, device: torch.device) -> Iterator[Pixels]:
    """Yield the true values of masked validation pixels as the network sees them, its values, and its log(sigma)."""
    block = recipe.train
    network = trained_network(serialise(weights), block.architecture, recipe.task, recipe.name).to(device)
    feed = Feed(recipe, open_stamps(dataset, "validation", device, block.input.normalisation))
    with torch.inference_mode():
        for numbers in torch.split(torch.arange(len(feed)), block.schedule.batch_size):
            examples = feed.examples(numbers, NATIVE)
            counted, start = examples.counted[:, 0], examples.input[:, 0]
            difference, logarithm = network(examples.input).float().unbind(1)
            shown = (start + examples.target[:, 0], start + difference, logarithm)
            true, value, sigma = (one[counted].cpu().numpy() for one in shown)
            yield true, value, sigma
