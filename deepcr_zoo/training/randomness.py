"""Random numbers that are hashes of seed, epoch, stamp and purpose.

The order of stamps, the number of processes and interruptions therefore change nothing.
"""

from __future__ import annotations

import enum
import math

import torch
from torch import Tensor

# increment and multipliers of SplitMix64 (Steele, Lea & Flood 2014), as signed 64-bit integers
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


class Purpose(enum.IntEnum):
    """Use of a random number; a new purpose gets a new number, so that the others keep their values."""

    ORDER = 1
    SKY = 2
    NOISE = 3
    FLIP = 4
    MASK_COUNT = 5
    MASKS = 6
    NOISE_ERROR = 7


def uniform(seed: int, epoch: int, stamps: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Return `count` numbers in [0, 1) for each stamp, float64, shape (N, count).

    `stamps` holds the numbers of the stamps, int64, shape (N,).
    """
    key = torch.tensor(seed, dtype=torch.int64, device=stamps.device)
    for part in (int(purpose), epoch, stamps):
        key = _mixed(key + _GOLDEN) ^ part  # only the old key is mixed, so that exchanged parts give another key
    positions = torch.arange(1, count + 1, device=stamps.device)
    bits = _mixed(_mixed(key)[:, None] + positions * _GOLDEN)
    return _shifted(bits, 11).double() * 2.0**-53


def normal(seed: int, epoch: int, stamps: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Return normal deviates of mean 0 and variance 1 (Box & Muller 1958), float64, shape (N, count)."""
    radius, angle = uniform(seed, epoch, stamps, purpose, 2 * count).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


def order(seed: int, epoch: int, count: int) -> Tensor:
    """Return the order of the stamps in an epoch, int64, shape (count,)."""
    return torch.argsort(uniform(seed, epoch, torch.arange(count), Purpose.ORDER, 1)[:, 0], stable=True)


def _mixed(bits: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64; int64 wraps around as its uint64 does."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros, which ``>>`` of a signed integer does not."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
