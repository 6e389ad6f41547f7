"""How training stamps are varied: sky level, flips and turns, and which masks they are inpainted under.

Everything is drawn per (seed, epoch, stamp), so that order, processes and interruptions change nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepcr_zoo.recipe import AugmentationBlock
from deepcr_zoo.training.randomness import Purpose, normal, uniform
from deepcr_zoo.training.stamps import StampBatch, StampSource

SYMMETRIES = 8
"""Of a square."""


def vary(batch: StampBatch, seed: int, epoch: int, settings: AugmentationBlock) -> StampBatch:
    """The stamps of a batch as an epoch sees them.

    Parameters
    ----------
    batch : StampBatch
    seed, epoch : int
    settings : AugmentationBlock
    """
    if settings.sky is not None:
        batch = _other_sky(batch, seed, epoch, settings.sky, settings.shot_noise)
    return _turned(batch, seed, epoch) if settings.flips else batch


def inpainting_masks(source: StampSource, numbers: Tensor, seed: int, epoch: int, limits: list[int]) -> Tensor:
    """For each stamp the union of CR masks of other stamps (Zhang & Bloom 2020, section 3.2: 1 to 9).

    Parameters
    ----------
    source : StampSource
        Of all stamps that masks are taken from; `numbers` are numbers in it.
    numbers : Tensor of int64, shape (N,)
    seed, epoch : int
    limits : list of int
        Fewest and most masks.

    Returns
    -------
    Tensor of bool, shape (N, S, S)
    """
    fewest, most = limits
    chance = uniform(seed, epoch, numbers, Purpose.MASK_COUNT, 1)
    wanted = fewest + (chance * (most - fewest + 1)).long()
    steps = 1 + (uniform(seed, epoch, numbers, Purpose.MASKS, most) * (len(source) - 1)).long()
    others = (numbers[:, None] + steps) % len(source)  # a step of 1 to n - 1 leads to any stamp but the same
    union = source.cosmic_rays(others[:, 0])  # every stamp wants one at least
    for place in range(1, most):
        union |= source.cosmic_rays(others[:, place]) & (wanted > place)[:, :, None]
    return union


def _other_sky(batch: StampBatch, seed: int, epoch: int, limits: list[float], shot_noise: bool) -> StampBatch:
    """Zhang & Bloom 2020, Eq. 3-4: n' = n + alpha x sky, alpha uniform."""
    lowest, highest = limits
    alpha = lowest + (highest - lowest) * uniform(seed, epoch, batch.numbers, Purpose.SKY, 1)[:, 0].float()
    added = (alpha * batch.sky)[:, None, None]
    image = batch.image + added
    if shot_noise:
        deviates = normal(seed, epoch, batch.numbers, Purpose.NOISE, image[0].numel()).float().view_as(image)
        image = image + deviates * torch.sqrt(added.clamp(min=0))  # e-; what was taken away had noise that stays
    return batch.with_image(image)


def _turned(batch: StampBatch, seed: int, epoch: int) -> StampBatch:
    """Each stamp in one of the eight positions of a square."""
    position = (uniform(seed, epoch, batch.numbers, Purpose.FLIP, 1)[:, 0] * SYMMETRIES).long()
    flip_rows, flip_columns, transpose = (((position >> bit) & 1).bool()[:, None, None] for bit in range(3))

    def turned(layer: Tensor) -> Tensor:
        layer = torch.where(flip_rows, layer.flip(1), layer)
        layer = torch.where(flip_columns, layer.flip(2), layer)
        return torch.where(transpose, layer.transpose(1, 2), layer)

    return StampBatch(batch.numbers, turned(batch.image), turned(batch.cosmic_rays), turned(batch.ignore), batch.sky)
