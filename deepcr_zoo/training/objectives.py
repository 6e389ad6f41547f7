"""Training objectives: the input of a network, its target, the pixels that count, and the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from deepcr_zoo.errors import TrainingError
from deepcr_zoo.models.architectures import LOG_SPREAD
from deepcr_zoo.models.interpolation import LAYERS, MOMENTUM, STEP_SIZE, STEPS
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.training.augmentation import augment, inpainting_masks
from deepcr_zoo.training.stamps import StampBatch, StampSource
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.recipe import Recipe

NATIVE = 0  # takes the place of an epoch, counted from 1: stamps without augmentation, and fixed inpainting masks

SOURCE_SIGMA = 5.0
"""By how much the pixels of a source stand out."""

LEAST_NEIGHBOURS = 3
"""Of the 8 around a pixel of a source, as bright as it must be; a hot column has 2."""


@dataclass(frozen=True)
class Examples:
    """Input and target of a network for a batch of stamps."""

    input: Tensor  # the normalised image, whose hidden pixels are 0 or an estimate, and the mask; float32, (N, C, S, S)
    target: Tensor  # share of a cosmic ray, or what inpainting should give; float32, shape (N, 1, S, S)
    counted: Tensor  # pixels that are in the loss; bool, shape (N, 1, S, S)
    weight: Tensor | None = None  # of each pixel in the loss, 1 without; float32, shape (N, 1, S, S)


def in_units_of_noise(image: Tensor, noise: Tensor) -> Tensor:
    """Return asinh((pixel - sky) / noise) of stamps (N, S, S); `noise` is sky and noise of each, shape (N, 2)."""
    sky, sigma = noise[:, :, None, None].unbind(1)
    return torch.asinh((image - sky) / sigma)


def mask_examples(batch: StampBatch, scale: float) -> Examples:
    """Return examples for a mask network; every pixel counts that is not ignored."""
    return Examples((batch.image / scale)[:, None], batch.cosmic_rays.float()[:, None], ~batch.ignore[:, None])


def taught(labelled: Examples, teacher: UNet, share: float) -> Examples:
    """Return examples whose targets are in part the probabilities of a teacher (Hinton et al. 2015, arXiv:1503.02531)."""
    with torch.no_grad():
        learned = torch.sigmoid(teacher(labelled.input).float())
    return replace(labelled, target=labelled.target + share * (learned - labelled.target))


def weighted(labelled: Examples, batch: StampBatch, source_weight: float) -> Examples:
    """Return examples in which the clean pixels of sources weigh more than all others."""
    return replace(labelled, weight=1 + (source_weight - 1) * sources(batch).float()[:, None])


def sources(batch: StampBatch) -> Tensor:
    """Return the clean pixels of stars, galaxies and trails, bool, shape (N, S, S).

    They are `SOURCE_SIGMA` above the medians of stamp, row and column, and have neighbours that are. Noise is median - 16th
    percentile. Hot pixels and columns are narrower; spectra and their lines fill rows or columns.
    """
    image = batch.image
    low, middle = torch.quantile(image.flatten(1), image.new_tensor([0.16, 0.5]), dim=1)[:, :, None, None]
    lines = torch.maximum(image.median(dim=1, keepdim=True).values, image.median(dim=2, keepdim=True).values)
    above = image - torch.maximum(middle, lines)
    bright: Tensor = (above > SOURCE_SIGMA * (middle - low)) & ~batch.cosmic_rays & ~batch.ignore
    around: Tensor = F.avg_pool2d(bright.float()[:, None], 3, stride=1, padding=1)[:, 0] * 9
    return bright & (around > LEAST_NEIGHBOURS + 0.5)  # the pixel itself is one of the 9


def inpainting_examples(batch: StampBatch, added: Tensor, scale: float) -> Examples:
    """Return examples for an inpainting network; `added` are the inpainting masks, bool, shape (N, S, S).

    The network sees neither the pixels of the added mask nor those of the stamp's own cosmic rays. The pixels that count are
    those of the added mask whose value is known: no own cosmic ray, not ignored. In units of the noise the network sees an
    estimate in hidden pixels, and its target is the difference to it.
    """
    hidden = added | batch.cosmic_rays
    image = batch.image / scale
    counted = added & ~batch.cosmic_rays & ~batch.ignore
    if batch.noise is None:
        shown, target = torch.where(hidden, torch.zeros_like(image), image), image
    else:
        shown = interpolated(image, hidden)
        target = image - shown
    return Examples(torch.stack([shown, hidden.float()], dim=1), target[:, None], counted[:, None])


def interpolated(image: Tensor, hidden: Tensor) -> Tensor:
    """Return images (N, S, S) with an estimate in hidden pixels, as `interpolation.interpolate`."""
    known, filled = ~hidden, torch.where(hidden, torch.zeros_like(image), image)
    for _ in range(LAYERS):
        if bool(known.all()):
            break
        share, total = F.avg_pool2d(torch.stack([known.float(), filled], dim=1), 3, stride=1, padding=1).unbind(1)
        ready = ~known & (share > 0)
        filled = torch.where(ready, total / share, filled)
        known = known | ready
    change = torch.zeros_like(filled)
    for _ in range(STEPS):
        change = torch.where(hidden, MOMENTUM * change - STEP_SIZE * _laplacian(_laplacian(filled)), 0)
        filled = filled + change
    return filled


def _laplacian(images: Tensor) -> Tensor:
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    beside = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    return beside - 4 * images


def summed_loss(task: Task, output: Tensor, examples: Examples) -> Tensor:
    """Return the loss of a batch, formed in float32 and summed over the pixels that count.

    Mask: binary cross-entropy of the logits, with 1 for a cosmic ray. Zhang & Bloom 2020, Eq. 1 as printed,
    E[M log(1 - F) + (1 - M) log F], is the log-probability of being wrong, which has no lower bound; their text and
    released code use the ordinary binary cross-entropy, as here. Inpainting: squared error (their Eq. 2), in units of the
    input scale; with a second output, its negative log-likelihood under a Gaussian whose sigma that output predicts
    (Nix & Weigend 1994, Eq. 5), so that pixels count by their noise.
    """
    if task == "mask":
        loss = F.binary_cross_entropy_with_logits(output.float(), examples.target, reduction="none")
    elif output.shape[1] == 2:
        value, logarithm = output[:, :1].float(), output[:, 1:].float().clamp(*LOG_SPREAD)
        loss = 0.5 * ((examples.target - value) * torch.exp(-logarithm)) ** 2 + logarithm
    else:
        loss = F.mse_loss(output.float(), examples.target, reduction="none")
    if examples.weight is not None:
        loss = loss * examples.weight
    return torch.where(examples.counted, loss, torch.zeros_like(loss)).sum()


@dataclass(frozen=True)
class Feed:
    """Examples from the stamps of a split, made as the recipe says."""

    recipe: Recipe
    source: StampSource
    teacher: UNet | None = None  # in evaluation mode

    def __post_init__(self) -> None:
        if self.recipe.task == "inpaint" and len(self.source) < 2:
            raise TrainingError(
                f"{self.recipe.name}: inpainting masks are cosmic rays of other stamps: expected at least 2 stamps for "
                f"training and 2 for validation, got {len(self.source)}; give the recipe more visits or smaller stamps"
            )

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, numbers: Tensor, epoch: int) -> Examples:
        """Return examples from some stamps, with the augmentation of an epoch or as they are (`NATIVE`)."""
        train = self.recipe.train
        batch = self.source.take(numbers)
        if epoch != NATIVE:
            batch = augment(batch, train.seed, epoch, train.augmentation)
        seen = batch if batch.noise is None else batch.with_image(in_units_of_noise(batch.image, batch.noise))
        if self.recipe.task == "mask":
            examples = mask_examples(seen, train.input.scale)
            if self.teacher is not None:
                examples = taught(examples, self.teacher, train.teacher_share)
        else:
            limits = train.augmentation.inpainting_masks
            added = inpainting_masks(self.source, batch.numbers, train.seed, epoch, limits)
            examples = inpainting_examples(seen, added, train.input.scale)
        return examples if train.source_weight == 1 else weighted(examples, batch, train.source_weight)
