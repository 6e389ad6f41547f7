"""What a network is to learn: its input, its target, and the pixels that count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training.augmentation import inpainting_masks, vary
from deepcr_zoo.training.stamps import StampBatch, StampSource
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.recipe import Recipe

NATIVE = 0
"""In the place of an epoch, which are counted from 1: stamps as they are, and fixed inpainting masks."""


@dataclass(frozen=True)
class Examples:
    """What a network is given, and what it should give.

    Attributes
    ----------
    input : Tensor of float32, shape (N, C, S, S)
        Pixel values / input scale; for inpainting [image * (1 - mask), mask].
    target : Tensor of float32, shape (N, 1, S, S)
        1 for a cosmic ray, 0 elsewhere; for inpainting the image / input scale.
    counted : Tensor of bool, shape (N, 1, S, S)
        Pixels that are in the loss.
    """

    input: Tensor
    target: Tensor
    counted: Tensor


def mask_examples(batch: StampBatch, scale: float) -> Examples:
    """Examples for a mask network: every pixel counts that is not ignored."""
    return Examples((batch.image / scale)[:, None], batch.cosmic_rays.float()[:, None], ~batch.ignore[:, None])


def inpainting_examples(batch: StampBatch, added: Tensor, scale: float) -> Examples:
    """Examples for an inpainting network.

    The network sees neither the pixels of the added mask nor those of the stamp's own cosmic rays. What counts are those of
    the added mask whose value is known: no own cosmic ray, not ignored.

    Parameters
    ----------
    batch : StampBatch
    added : Tensor of bool, shape (N, S, S)
        From `augmentation.inpainting_masks`.
    scale : float
    """
    hidden = added | batch.cosmic_rays
    target = batch.image / scale
    shown = torch.where(hidden, torch.zeros_like(target), target)
    return Examples(
        torch.stack([shown, hidden.float()], dim=1), target[:, None], (added & ~batch.cosmic_rays & ~batch.ignore)[:, None]
    )


def summed_loss(task: Task, output: Tensor, examples: Examples) -> Tensor:
    """The loss of a batch, summed over the pixels that count; the mean is this divided by their number.

    Mask: binary cross-entropy of the logits, with 1 for a cosmic ray. Zhang & Bloom 2020, Eq. 1 as printed,
    E[M log(1 - F) + (1 - M) log F], is the log-probability of being wrong, which has no lower bound; their text and
    released code use the ordinary binary cross-entropy, as here. Inpainting: squared error (their Eq. 2), in units of the
    input scale.

    Parameters
    ----------
    task : {"mask", "inpaint"}
    output : Tensor, shape (N, 1, S, S)
        Of the network; taken to float32 first.
    examples : Examples
    """
    if task == "mask":
        loss = F.binary_cross_entropy_with_logits(output.float(), examples.target, reduction="none")
    else:
        loss = F.mse_loss(output.float(), examples.target, reduction="none")
    return torch.where(examples.counted, loss, torch.zeros_like(loss)).sum()


@dataclass(frozen=True)
class Feed:
    """Examples from the stamps of a split, as the recipe wants them.

    Attributes
    ----------
    recipe : Recipe
    source : StampSource

    Raises
    ------
    TrainingError
        If there is but one stamp, and inpainting masks are made of other stamps.
    """

    recipe: Recipe
    source: StampSource

    def __post_init__(self) -> None:
        if self.recipe.task == "inpaint" and len(self.source) < 2:
            raise TrainingError(
                f"{self.recipe.name}: inpainting masks are cosmic rays of other stamps: expected at least 2 stamps for "
                f"training and 2 for validation, got {len(self.source)}; give the recipe more visits or smaller stamps"
            )

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, numbers: Tensor, epoch: int) -> Examples:
        """Examples from some stamps.

        Parameters
        ----------
        numbers : Tensor of int64, shape (N,)
        epoch : int
            Chooses how they are varied; `NATIVE` leaves them as they are.
        """
        train = self.recipe.train
        batch = self.source.take(numbers)
        if epoch != NATIVE:
            batch = vary(batch, train.seed, epoch, train.augmentation)
        if self.recipe.task == "mask":
            return mask_examples(batch, train.input.scale)
        limits = train.augmentation.inpainting_masks
        return inpainting_examples(
            batch, inpainting_masks(self.source, batch.numbers, train.seed, epoch, limits), train.input.scale
        )
