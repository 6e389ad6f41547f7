"""Random numbers that depend on what they are for, and on nothing that was drawn before.

A number is a hash of (seed, epoch, stamp, purpose, position). Order of the stamps, number of processes, device and
interruptions do not change it. The hash is that of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA,
doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

import enum
import math

import torch
from torch import Tensor


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
