"""Augmentation of training stamps: sky level, errors of the noise, flips and turns, and inpainting masks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deepcr_zoo.training.randomness import Purpose, normal, uniform
from deepcr_zoo.training.stamps import StampBatch, StampSource
from deepcr_zoo.zoo.recipe import AugmentationBlock

SQUARE_SYMMETRIES = 8


def augment(batch: StampBatch, seed: int, epoch: int, settings: AugmentationBlock) -> StampBatch:
    """Return the stamps of a batch as they are shown in an epoch."""
    if settings.sky is not None:
        batch = _change_sky(batch, seed, epoch, settings.sky, settings.shot_noise)
    if settings.noise_error:
        batch = _measure_wrongly(batch, seed, epoch, settings.noise_error)
    return _turn(batch, seed, epoch) if settings.flips else batch


def inpainting_masks(source: StampSource, numbers: Tensor, seed: int, epoch: int, limits: list[int]) -> Tensor:
    """Return the union of CR masks of other stamps for each stamp, bool, shape (N, S, S).

    `numbers` are those of the stamps in `source`, int64, shape (N,); `limits` are the fewest and the most masks in a union.
    Zhang & Bloom 2020, section 3.2, take 1 to 9.
    """
    fewest, most = limits
    chance = uniform(seed, epoch, numbers, Purpose.MASK_COUNT, 1)
    counts = fewest + (chance * (most - fewest + 1)).long()
    steps = 1 + (uniform(seed, epoch, numbers, Purpose.MASKS, most) * (len(source) - 1)).long()
    others = (numbers[:, None] + steps) % len(source)  # a step of 1 to n - 1 leads to any stamp but the same
    union = source.cosmic_rays(others[:, 0])  # every union has one mask at least
    for place in range(1, most):
        union |= source.cosmic_rays(others[:, place]) & (counts > place)[:, :, None]
    return union


def _change_sky(batch: StampBatch, seed: int, epoch: int, limits: list[float], shot_noise: bool) -> StampBatch:
    """Add alpha x sky with alpha uniform in `limits` (Zhang & Bloom 2020, Eq. 3-4)."""
    lowest, highest = limits
    alpha = lowest + (highest - lowest) * uniform(seed, epoch, batch.numbers, Purpose.SKY, 1)[:, 0].float()
    added = (alpha * batch.sky)[:, None, None]
    image = batch.image + added
    if shot_noise:
        deviates = normal(seed, epoch, batch.numbers, Purpose.NOISE, image[0].numel()).float().view_as(image)
        image = image + deviates * torch.sqrt(added.clamp(min=0))  # the noise of subtracted sky stays in the image
    if batch.noise is None:
        return batch.with_image(image)
    sky, noise = batch.noise.unbind(1)
    level = added[:, 0, 0]
    more = level.clamp(min=0) if shot_noise else torch.zeros_like(level)
    return replace(batch, image=image, noise=torch.stack([sky + level, torch.sqrt(noise**2 + more)], dim=1))


def _measure_wrongly(batch: StampBatch, seed: int, epoch: int, error: float) -> StampBatch:
    """Change the measured noise by some per cent, and the sky by a fraction of the noise, as another frame would have it."""
    if batch.noise is None:
        return batch
    level, size = (error * normal(seed, epoch, batch.numbers, Purpose.NOISE_ERROR, 2).float()).unbind(1)
    sky, noise = batch.noise.unbind(1)
    return replace(batch, noise=torch.stack([sky + level * noise, noise * torch.exp(size)], dim=1))


def _turn(batch: StampBatch, seed: int, epoch: int) -> StampBatch:
    """Put each stamp into one of the eight positions of a square."""
    position = (uniform(seed, epoch, batch.numbers, Purpose.FLIP, 1)[:, 0] * SQUARE_SYMMETRIES).long()
    flip_rows, flip_columns, transpose = (((position >> bit) & 1).bool()[:, None, None] for bit in range(3))

    def turned(layer: Tensor) -> Tensor:
        layer = torch.where(flip_rows, layer.flip(1), layer)
        layer = torch.where(flip_columns, layer.flip(2), layer)
        return torch.where(transpose, layer.transpose(1, 2), layer)

    return replace(batch, image=turned(batch.image), cosmic_rays=turned(batch.cosmic_rays), ignore=turned(batch.ignore))
