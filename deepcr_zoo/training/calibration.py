"""A predicted uncertainty is stretched until it holds the share of validation pixels that a standard deviation holds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.models.networkinput import johnson_deviation
from deepcr_zoo.models.weights import serialise, trained_network
from deepcr_zoo.training.objectives import NATIVE, Feed
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.zoo.recipe import Recipe

WITHIN_ONE = 0.6827
"""Of Gaussian errors, erf(1 / sqrt(2))."""

LARGEST_STEP = 3.0
"""Of log(sigma): a factor of 20 either way, beyond which a network has predicted nothing."""

HALVINGS = 12
"""Of the step: to 0.15 % of the uncertainty, so coarse that rounding on another machine does not change the weights."""

HEAD_BIAS = "head.bias"

Pixels = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def calibrated(weights: dict[str, Tensor], recipe: Recipe, dataset: Dataset, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of an inpainting network whose log(sigma) has another bias; nothing else changes.

    The Gaussian likelihood follows the largest errors, so that most are well within the sigma that it asks for. With the new
    bias, 68.3 % of the masked validation pixels have an error below the uncertainty of their values. `TrainingError` if no
    bias within `LARGEST_STEP` does that.
    """
    true, values, logarithms = (
        np.concatenate(one) for one in zip(*masked_pixels(weights, recipe, dataset, device), strict=True)
    )
    error = np.abs(np.sinh(true) - np.sinh(values))  # in units of the noise

    def share_within(step: float) -> float:
        return float(np.mean(error < johnson_deviation(values, logarithms + np.float32(step))))

    low, high = -LARGEST_STEP, LARGEST_STEP
    least, most = (share_within(step) for step in (low, high)) if error.size else (math.nan, math.nan)
    if not least < WITHIN_ONE < most:
        raise TrainingError(
            f"uncertainties: of the {error.size} masked validation pixels, {100 * least:.3g} to {100 * most:.3g} % are "
            "within a twentieth and twenty times of them, expected 68.3 % between: train for more epochs, or with outputs: 1"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if share_within(middle) > WITHIN_ONE else (middle, high)
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
            true, value, log_sigma = (one[counted].cpu().numpy() for one in shown)
            yield true, value, log_sigma
