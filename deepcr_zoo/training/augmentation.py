"""How training stamps are varied: sky level, flips and turns, and which masks they are inpainted under.

Everything is drawn per (seed, epoch, stamp), so that order, processes and interruptions change nothing.
"""

from __future__ import annotations

import enum
import math

import torch
from torch import Tensor

from deepcr_zoo.training.stamps import StampBatch, StampSource
from deepcr_zoo.zoo.recipe import AugmentationBlock


class Purpose(enum.IntEnum):
    """What a random number is for; a new purpose gets a new number, so that the others stay as they are."""

    ORDER = 1
    SKY = 2
    NOISE = 3
    FLIP = 4
    MASK_COUNT = 5
    MASKS = 6


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def uniform(seed: int, epoch: int, stamps: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Numbers in [0, 1).

    Parameters
    ----------
    seed, epoch : int
    stamps : Tensor of int64, shape (N,)
        Numbers of the stamps; the result is on their device.
    purpose : Purpose
    count : int
        Numbers for each stamp.

    Returns
    -------
    Tensor of float64, shape (N, count)
    """
    key = torch.tensor(seed, dtype=torch.int64, device=stamps.device)
    for part in (int(purpose), epoch, stamps):
        key = _mixed(key + _GOLDEN) ^ part  # only the old key is mixed: parts that change places are not the same
    positions = torch.arange(1, count + 1, device=stamps.device)
    bits = _mixed(_mixed(key)[:, None] + positions * _GOLDEN)
    return _shifted(bits, 11).double() * 2.0**-53


def normal(seed: int, epoch: int, stamps: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Normal deviates of mean 0 and variance 1, by Box & Muller 1958; otherwise as `uniform`."""
    radius, angle = uniform(seed, epoch, stamps, purpose, 2 * count).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


def order(seed: int, epoch: int, count: int) -> Tensor:
    """The order in which an epoch takes the stamps, int64, shape (count,)."""
    return torch.argsort(uniform(seed, epoch, torch.arange(count), Purpose.ORDER, 1)[:, 0], stable=True)


def _mixed(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64; int64 wraps around as its uint64 does."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, zeros from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


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
